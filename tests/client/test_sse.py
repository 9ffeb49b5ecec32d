"""An event stream reads the same however it is cut up."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshyard.sse import Frame, Parser

TEXT = (
    ': ping\r\n\r\nid: 1\nevent: job.queued\ndata: {"a":\ndata: 1}\n\n'
    "data:é\r\rretry: 10\nevent: end\ndata\n\nevent: lost\n\ndata: cut"
).encode()
FRAMES = [Frame("job.queued", '{"a":\n1}', "1"), Frame("message", "é", None), Frame("end", "", None)]


@given(st.lists(st.integers(0, len(TEXT))))
def test_any_cut_gives_the_same_frames(cuts):
    parser, found = Parser(), []
    edges = [0, *sorted(cuts), len(TEXT)]
    for start, end in pairwise(edges):
        found += parser.feed(TEXT[start:end])
    assert found == FRAMES
