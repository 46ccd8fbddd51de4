"""Long sequences of the benchmark are named by size and number of frames."""

from __future__ import annotations

import pytest

from benchmarks.sequences import SEQUENCES, sequence


def test_a_sequence_is_size_and_frames():
    assert sequence("1024x36") == (1024, 36)
    assert sequence("2048x156") in SEQUENCES


@pytest.mark.parametrize("text", ["1024", "1024x", "ax3", "0x9", "1024x0", "1x2x3"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="1024x36"):
        sequence(text)
