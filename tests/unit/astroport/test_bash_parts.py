"""What of the Bash side lies on a station."""

from __future__ import annotations

from pathlib import Path

from dragon.astroport import shims
from dragon.astroport.bash_parts import bash_parts
from dragon.astroport.zen import Zen


def test_originals_and_stand_ins(tmp_path: Path) -> None:
    zen, environ = Zen(tmp_path / ".zen"), {"HOME": str(tmp_path)}
    nothing = bash_parts(zen, environ)
    assert nothing.document() == {"dragon_script": "absent", "managers": 0, "stand_ins": 0, "running": ()}
    zen.services.mkdir(parents=True)
    zen.dragon_script.parent.mkdir()
    zen.dragon_script.write_text("#!/bin/bash\n" + "# the original\n" * 500)
    (zen.services / "own.me.sh").write_text("#!/bin/sh\n# calls me with a dragon\n")
    (zen.services / "vane.me.sh").write_text("#!/bin/bash\n# dragon me \n")
    shims.write(zen.services, ["ollama", "dify"], ("/opt/dragon",))
    found = bash_parts(zen, environ)
    assert (found.dragon_script, found.managers, found.stand_ins) == ("original", 2, 3)
    zen.dragon_script.write_text(shims.wrapper_text(["/opt/other/program"]))
    assert bash_parts(zen, environ).dragon_script == "dragon"
