"""Names that a peer may try on us: one corpus for the grammar and for every exit (terminal, log, page, file, shell)."""

HOSTILE_NAMES: tuple[str, ...] = (
    "",
    " ",
    " a",
    "a ",
    "a  b",
    "\x00",
    "a\x00b",
    "a\nb",
    "a\r\nSet-Cookie: x",
    "a\tb",
    "a\n",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x9b31m",
    "a\x7f",
    "a\x85b",
    "\u202eevil",  # right-to-left override
    "a\u2066b\u2069",  # isolates
    "a\u200bb",  # zero-width space
    "a\u200db",  # zero-width joiner
    "\ufefftext",  # byte order mark
    "a\u2028b",
    "a\u2029b",
    "a\u00a0b",  # a space that is none
    "a\u3000b",
    "a\u00adb",  # soft hyphen
    "\u3164",  # Hangul filler: a letter that shows nothing
    "a\u115fb",
    "a\uffa0b",
    "a\u034fb",  # combining grapheme joiner
    "a\ufe0fb",  # variation selector
    "a\U000e0041b",  # tag character
    "a\U000e0100b",
    "\u2800",  # blank of Braille
    "a\ue000b",  # private use
    "a\U000105c9b",  # assigned only by Unicode 16
    "a\u0378b",  # assigned by nobody
    "a\ufdd0b",  # a non-character
    "Cafe\u0301",  # NFD of Café
    "\u212bngstr\u00f6m",  # the ångström sign, NFC would make it Å
    "../../etc/passwd",
    "..",
    ".",
    "./x",
    "/etc/passwd",
    "a/../b",
    "~/.ssh/id_rsa",
    "-rf",
    "--help",
    "$(reboot)",
    "`reboot`",
    "${IFS}",
    "a[$(reboot)]",
    "x;reboot",
    "x|reboot",
    "x&reboot",
    "x>y",
    "x<y",
    "'; DROP TABLE x; --",
    'x" onmouseover="alert(1)',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "{{7*7}}",
    "%{x}",
    "\\x",
    "x\\",
    "a#b",
    "*",
    "?",
    "!x",
    "x!",
    "=1+1",
    "@SUM(1)",
)

LONE_SURROGATE = "a\ud800b"
"""Cannot be encoded in UTF-8 at all, so it never arrives as text; it may come from a local file name."""
