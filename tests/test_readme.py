"""The Python example of the README runs as it stands, but for its lengths."""

import re
from pathlib import Path
from typing import Any

import pytest
from tiny import Made

README = Path(__file__).parents[1] / "README.md"
#: What is made smaller, so that it takes a second.
SHORTER = {
    "SimulationSettings()": "SimulationSettings(steps=10, save_every=5)",
    "1000, 5.0": "9, 2.0",
    "[:16]": "[:3]",
}


def test_the_python_example_runs(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for text, shorter in SHORTER.items():
        assert text in example
        example = example.replace(text, shorter)
    for name in ("data", "potential", "surrogate"):
        source = made.dataset if name == "data" else getattr(made, name)
        (tmp_path / name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example, found)
    assert found["dynamics"].positions_nm.shape == (3, 2, 5, 3)
    assert found["rolled"].positions_nm.shape == (3, 9, 5, 3)
