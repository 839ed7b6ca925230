"""Tasks by name, and what they take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from twophase.link.errors import InputError
from twophase.training.config import PRESETS
from twophase.training.tasks import TASKS, load_task


def test_every_task_has_its_settings() -> None:
    assert set(TASKS) == set(PRESETS)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("mnist", None, "'task' must be one of digits, reviews, sst2, csv, npz or MODULE:FUNCTION, not"),
        (":f", None, "'task' must be one of"),
        ("m:", None, "'task' must be one of"),
        ("csv", None, "'data' must name the file of the task 'csv', not None"),
        ("npz", None, "'data' must name the file of the task 'npz', not None"),
        ("digits", "own.csv", "'data' must not be given with the task 'digits', which takes no file, not"),
        ("reviews", "own.csv", "'data' must not be given with the task 'reviews'"),
        ("sst2", "own.csv", "'data' must not be given with the task 'sst2'"),
    ],
)
def test_a_task_takes_what_it_takes(name: str, data: str | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_task(name, None if data is None else Path(data))
    assert str(caught.value).startswith(said)


def test_a_task_brings_only_its_own_packages() -> None:
    program = (
        "import sys; from twophase.training.tasks import load_task; load_task('digits');"
        "print(sorted({'datasets', 'transformers', 'huggingface_hub', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
