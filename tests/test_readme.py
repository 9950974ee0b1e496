"""What the README says of settings is what the code says."""

from __future__ import annotations

from pathlib import Path

from receiver.settings import described

README = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_readme_with_its_meaning_and_default():
    for name, default, text in described():
        assert f"| `{name}` | {text} | {f'`{default}`' if default else ''} |" in README


def test_every_file_that_the_readme_names_is_there():
    root = Path(__file__).parent.parent
    named = {
        word.strip("`,.|;:()") for word in README.split() if word.startswith(("`tests/", "`receiver/", "`deploy/"))
    }
    assert named
    assert [name for name in named if not (root / name.split(" ")[0]).exists()] == []
