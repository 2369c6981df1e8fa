"""What is in the way of a home is said in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragon.errors import HomeError
from dragon.home import Home


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_home_that_is_a_file_is_called_that(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HomeError, match="is no folder, or lies below a file") as caught:
        Home(tmp_path / place).prepare()
    assert "DRAGON_HOME" in caught.value.hint
