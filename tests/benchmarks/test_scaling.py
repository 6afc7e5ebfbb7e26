"""What GPUs need, against a profile whose products can be worked out in one's head."""

import json
from pathlib import Path

import pytest

from benchmarks import scaling

PROFILE = {
    "machine": {"cpu": "a processor, 2 cores"},
    "config": {"clip": {"num_frames": 16}},
    "stages_cpu_ms_per_clip": {"reading": 1.0, "decode": 12.0, "hand-over": 2.0, "augment": 0.0},
    "bytes_per_clip": 400_000.0,
}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(PROFILE))
    return path


def test_the_needs_are_products_of_what_a_clip_costs(profile: Path) -> None:
    costs, machine = scaling.read_costs(profile)
    assert (costs.num_jpegs, machine) == (48, "a processor, 2 cores")
    need = scaling.needs(costs, num_gpus=8, gpu_clips_per_s=100)
    assert need.clips_per_s == 800
    assert need.disk_mb_per_s == pytest.approx(320)  # 800 x 0.4 MB
    assert need.jpegs_per_s == 38_400  # 800 x 16 frames x 3
    assert need.cores == pytest.approx(12)  # 800 x 15 ms
    assert need.cores_without_decode == pytest.approx(2.4)  # 800 x 3 ms
    assert need.epoch_seconds["subset"] == pytest.approx(13.9825)  # 11,186 / 800
    assert need.epoch_seconds["EPIC-KITCHENS-100"] == pytest.approx(84.02125)  # 67,217 / 800


def test_the_table_says_what_is_assumed_and_what_it_was_measured_on(
    profile: Path, capsys: pytest.CaptureFixture
) -> None:
    assert scaling.main([str(profile), "--gpu-clips-per-s", "50", "100"]) == 0
    printed = capsys.readouterr().out
    assert "A clip, measured on a processor, 2 cores: 400 KB, 48 JPEGs, CPU ms: reading 1.00, decode 12.00" in printed
    assert "subset 11,186 clips, 4.5 GB; EPIC-KITCHENS-100 67,217 clips, 26.9 GB" in printed
    assert "| 64 | 100, GIVEN | 6,400 | 2,560 | 307,200 | 96.0 | 19.2 | 2 | 11 |" in printed
    assert printed.count("\n| ") == 2 + 2 * 3


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 2, "cannot be read (No such file or directory); pipeline.profile --json writes it"),
        ("{", 1, "not a profile of pipeline.profile --json"),
        ("[]", 1, "not a profile of pipeline.profile --json"),
        ('{"machine": {}}', 1, "not a profile of pipeline.profile --json (KeyError('stages_cpu_ms_per_clip'))"),
    ],
)
def test_a_file_that_is_no_profile_is_one_message(
    content: str | None, code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    assert scaling.main([str(path), "--gpu-clips-per-s", "1"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-1", "inf", "many"])
def test_a_rate_that_no_gpu_has_is_refused(rate: str, profile: Path) -> None:
    with pytest.raises(SystemExit):
        scaling.main([str(profile), "--gpu-clips-per-s", rate])
