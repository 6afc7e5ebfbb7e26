"""No byte of a packed split changes unseen: some mutations of each kind and file; chaos.bytes tries more."""

from pathlib import Path

import pytest

from chaos import bytes as chaos


@pytest.mark.parametrize("codec", chaos.CODECS)
def test_damage_is_refused_with_file_clip_and_way_out_or_changes_no_pixel(codec: str, tmp_path: Path) -> None:
    tried = list(chaos.fuzz(tmp_path, codec, num_mutations=3, seed=1))
    assert len(tried) == 3 * len(chaos.FILES) * len(chaos.MUTATIONS)
    assert [(fault, outcome) for fault, outcome, is_right in tried if not is_right] == []
    assert {chaos.DETECTED, chaos.NAMED, chaos.FOUND_LATER} <= {outcome for _, outcome, _ in tried}
