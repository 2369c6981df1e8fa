// A relay of the tests' own: khatru on an LMDB store, with NIP-77.
//
// `relay FOLDER PORT 77` (port 0: a free one; 1 instead of 77: without NIP-77) prints `listening PORT` and serves on loopback
// until its standard input ends, and its data with it. Beside the WebSocket it has two ways past the relay's own pipeline, as
// strfry's command line tool has into strfry's database: `POST /import[?verify]` takes one event a line and answers
// `ADDED PRESENT REFUSED`; `POST /scan` takes a filter and answers one event a line, uncapped.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/fiatjaf/eventstore"
	"github.com/fiatjaf/eventstore/lmdb"
	"github.com/fiatjaf/khatru"
	"github.com/nbd-wtf/go-nostr"
)

func main() {
	folder, port := os.Args[1], os.Args[2]
	store := &lmdb.LMDBBackend{Path: folder}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		log.Fatal(err)
	}
	if err := store.Init(); err != nil {
		log.Fatal(err)
	}
	relay := khatru.NewRelay()
	relay.Negentropy = os.Args[3] == "77"
	relay.StoreEvent = append(relay.StoreEvent, store.SaveEvent)
	relay.QueryEvents = append(relay.QueryEvents, store.QueryEvents)
	relay.CountEvents = append(relay.CountEvents, store.CountEvents)
	relay.DeleteEvent = append(relay.DeleteEvent, store.DeleteEvent)
	relay.ReplaceEvent = append(relay.ReplaceEvent, store.ReplaceEvent)
	relay.Router().HandleFunc("POST /import", func(answer http.ResponseWriter, request *http.Request) {
		importing(relay, store, answer, request)
	})
	relay.Router().HandleFunc("POST /scan", func(answer http.ResponseWriter, request *http.Request) {
		scanning(store, answer, request)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = os.RemoveAll(folder) // whoever would start us again is gone
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, relay))
}

func importing(relay *khatru.Relay, store *lmdb.LMDBBackend, answer http.ResponseWriter, request *http.Request) {
	_, verify := request.URL.Query()["verify"]
	added, present, refused := 0, 0, 0
	lines := bufio.NewReaderSize(request.Body, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			var event nostr.Event
			switch {
			case json.Unmarshal(line, &event) != nil || verify && !genuine(&event):
				refused++
			default:
				switch err := save(request.Context(), store, &event); err {
				case nil:
					added++
					relay.BroadcastEvent(&event)
				case eventstore.ErrDupEvent:
					present++
				default:
					refused++
				}
			}
		}
		if err != nil {
			break
		}
	}
	fmt.Fprintf(answer, "%d %d %d\n", added, present, refused)
}

func genuine(event *nostr.Event) bool {
	signed, err := event.CheckSignature()
	return event.CheckID() && signed && err == nil
}

// save stores an event by the rules of NIP-01 and NIP-09: the newest of what replaces one another, and what a deletion of the
// same author names goes.
func save(ctx context.Context, store *lmdb.LMDBBackend, event *nostr.Event) error {
	if !nostr.IsRegularKind(event.Kind) {
		return store.ReplaceEvent(ctx, event)
	}
	if event.Kind == nostr.KindDeletion {
		for _, tag := range event.Tags {
			if len(tag) < 2 || tag[0] != "e" {
				continue
			}
			found, err := store.QueryEvents(ctx, nostr.Filter{IDs: []string{tag[1]}})
			if err != nil {
				return err
			}
			for target := range found {
				if target.PubKey == event.PubKey && target.Kind != nostr.KindDeletion {
					_ = store.DeleteEvent(ctx, target)
				}
			}
		}
	}
	return store.SaveEvent(ctx, event)
}

func scanning(store *lmdb.LMDBBackend, answer http.ResponseWriter, request *http.Request) {
	var filter nostr.Filter
	if err := json.NewDecoder(request.Body).Decode(&filter); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	found, err := store.QueryEvents(eventstore.SetNegentropy(request.Context()), filter)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	for event := range found {
		line, _ := json.Marshal(event)
		_, _ = answer.Write(append(line, '\n'))
	}
}
