"""Several targets: a head of each on the same features, for every method, without one of them knowing."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models import FUSIONS, build_model
from models.methods.early import ThreeHeads
from models.targets import marginal

SIZES = {"verb": 3, "noun": 5}
TWO = {"targets": ["verb", "noun"], "num_classes": {"noun": 5, "verb": 3}}  # logits are in the order of targets
SMALL = {"width": 0.05, "hidden_size": 8}
OPTIONS = {"mult": {"width": 0.05}}
LABELS = torch.tensor([[0, 4], [2, 1]])  # verb, noun
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")


@pytest.fixture
def outside(tmp_path: Path) -> str:
    """The method of docs/own-method.md, as FILE.py:Class."""
    source = (Path(__file__).parents[2] / "docs/own-method.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "my_fusion.py").write_text(source)
    return f"{tmp_path}/my_fusion.py:Gated"


def clips(model):
    generator = torch.Generator().manual_seed(1)
    rgb, flow = (torch.randint(256, (2, c, 8, 32, 32), dtype=torch.uint8, generator=generator) for c in (3, 2))
    return rgb if "rgb" in model.streams else None, flow if "flow" in model.streams else None


def seeded(fusion: str, **options):
    torch.manual_seed(0)
    return build_model(fusion, **OPTIONS.get(fusion, SMALL), **options)


@pytest.mark.parametrize("fusion", [*FUSIONS, "outside"])
def test_every_method_has_a_head_for_each_target_and_its_cross_entropy(fusion: str, request: pytest.FixtureRequest):
    fusion = request.getfixturevalue("outside") if fusion == "outside" else fusion
    model, plain = seeded(fusion, **TWO, target_weights={"noun": 0.5}), seeded(fusion, num_classes=8)
    torch.testing.assert_close(dict(plain.state_dict()), dict(model.state_dict()), rtol=0, atol=0)  # names, values
    model.eval()
    output = model(*clips(model))
    losses = model.losses(output, LABELS)
    verb, noun = output.logits[:, :3], output.logits[:, 3:]
    assert noun.shape == (2, 5)
    torch.testing.assert_close(losses["cls_verb"], F.cross_entropy(verb, LABELS[:, 0]))
    torch.testing.assert_close(losses["cls_noun"], 0.5 * F.cross_entropy(noun, LABELS[:, 1]))
    others = {term: loss for term, loss in losses.items() if not term.startswith("cls_")}
    if isinstance(model, ThreeHeads):
        assert list(others) == ["rgb_verb", "rgb_noun", "flow_verb", "flow_noun"]
        expected = F.cross_entropy(output.extra["flow"][:, :3], LABELS[:, 0])
        torch.testing.assert_close(others["flow_verb"], expected)
    else:  # what a method adds does not depend on targets
        first = plain.eval().losses(output, LABELS[:, 0])
        assert others.keys() == first.keys() - {"cls"}
        assert all(torch.equal(loss, first[term]) for term, loss in others.items())
    # The loss of a target leaves the logits of the other alone.
    (of_verb,) = torch.autograd.grad(losses["cls_verb"], output.logits, retain_graph=True)
    assert of_verb[:, :3].abs().min() > 0
    assert not of_verb[:, 3:].any()


def test_one_named_target_is_trained_on_as_the_first_is():
    first, noun = seeded("rgb", num_classes=5), seeded("rgb", num_classes=5, targets=["noun"])
    output = first(*clips(first))
    by_name = {"verb": LABELS[:, 0], "noun": LABELS[:, 1]}
    assert torch.equal(first.targets.labels(LABELS[:, 0], by_name), LABELS[:, 0])
    labels = noun.targets.labels(LABELS[:, 0], by_name)
    assert torch.equal(labels, LABELS[:, 1])
    assert torch.equal(noun.losses(output, labels)["cls"], F.cross_entropy(output.logits, LABELS[:, 1]))


def test_a_clip_is_right_where_all_its_targets_are():
    targets = seeded("rgb", **TWO).targets
    logits = torch.cat([F.one_hot(LABELS[:, 0], 3), F.one_hot(torch.tensor([4, 0]), 5)], dim=1).float()
    assert targets.num_correct(logits, LABELS) == 1


def test_marginals_are_the_logarithm_of_sums_of_probabilities():
    pairs = torch.tensor([[0, 1], [0, 3], [2, 1]])  # verb, noun of each action; no action has verb 1
    logits = torch.tensor([[1.0, 2.0, 0.5], [900.0, -900.0, 0.0]])
    p = logits.double().softmax(dim=1)
    verbs = torch.stack([p[:, 0] + p[:, 1], torch.zeros(2), p[:, 2]], dim=1)
    torch.testing.assert_close(marginal(logits, pairs[:, 0]).double().exp(), verbs, rtol=1e-6, atol=0)
    targets = seeded("rgb", targets=["action"], num_classes=3).targets
    targets.actions = pairs
    scores = targets.scores(logits)
    assert list(scores) == ["action", "verb", "noun"]
    torch.testing.assert_close(
        scores["noun"][0].double().exp(),
        torch.stack([0 * p[0, 0], p[0, 0] + p[0, 2], 0 * p[0, 0], p[0, 1]]),
        rtol=1e-6,
        atol=0,
    )
