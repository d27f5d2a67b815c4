"""Runs every example of the README and compares what it prints with what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from real_server import RealServer

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLE = re.compile(r"^```python\n(?P<code>.*?)^```\n\n```output\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [(match["code"], match["output"]) for match in EXAMPLE.finditer(README.read_text())]


def test_every_example_has_its_output() -> None:
    assert len(EXAMPLES) == README.read_text().count("```python\n") > 0


@pytest.mark.server
@pytest.mark.parametrize(("code", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_it_says(server: RealServer, code: str, output: str) -> None:
    source = str(README.parent / "src")
    environment = {"CAISSON_TOKEN": server.token, "CAISSON_ENDPOINT": server.endpoint, "PYTHONPATH": source}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (result.stdout, result.stderr, result.returncode) == (output, "", 0)
