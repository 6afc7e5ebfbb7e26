"""The options of the methods: defaults, ranges, and what is refused."""

import pytest

from common.errors import ConfigError
from configs.load import parse_options
from configs.methods import EXCHANGES, METHODS, options_of
from configs.options import TRUNK_STAGES
from configs.outside import find_class


def test_each_method_names_itself_and_its_class():
    for fusion, options in METHODS.items():
        assert options().fusion == fusion
        assert options_of(fusion) is options
        assert find_class(options.implementation).__module__.startswith("models.")


@pytest.mark.parametrize("fusion", METHODS)
def test_options_survive_a_round_trip(fusion):
    options = parse_options(fusion, num_classes=3)
    assert parse_options(**options.model_dump()) == options
    assert parse_options(**options.model_dump(mode="json")) == options


def test_targets_survive_a_round_trip_and_a_method_sees_all_their_classes_together():
    options = parse_options("late", targets=["verb", "noun"], num_classes={"noun": 4, "verb": 3})
    again = parse_options(**options.model_dump(mode="json"))
    assert again == options
    assert again.num_classes == 7
    assert again.model_dump()["num_classes"] == {"noun": 4, "verb": 3}


def test_no_pretrained_weights_can_be_said_in_two_ways():
    assert parse_options("rgb", pretrained=None) == parse_options("rgb", pretrained={"rgb": None, "flow": None})


@pytest.mark.parametrize(
    ("fusion", "options", "message"),
    [
        ("late", {"dropout": 1.0}, r"model\.dropout: found 1\.0: input should be less than 1"),
        ("late", {"drop_out": 0.5}, r"model\.drop_out: unknown key; did you mean 'dropout'\?"),
        ("early", {"rgb_weight": 0.5}, r"model\.rgb_weight: has no effect when fusion is 'early'.*late, .*xnorm"),
        ("rgb", {"pretrained": {"flow": "f.pt"}}, r"model\.pretrained: 'flow' has no effect when fusion is 'rgb'"),
        ("flow", {"pretrained": {"rgb": "r.pt"}}, r"model\.pretrained: 'rgb' has no effect when fusion is 'flow'"),
        ("late", {"pretrained": {"audio": "a.pt"}}, r"model\.pretrained\.audio: unknown key; known here: rgb, flow"),
        ("late", {"pretrained": {"rgb": "r.pt"}, "width": 0.5}, r"fit width 1\.0 alone, found width 0\.5"),
        ("xnorm", {"exchange_after": []}, r"model\.exchange_after: found"),
        ("xnorm", {"exchange_after": ["Mixed_3d"]}, r"unknown stage 'Mixed_3d' of trunk 'i3d'; did you mean 'Mixed"),
        (
            "xnorm",
            {"trunk": "r2plus1d_18", "exchange_after": ["Mixed_3b"]},
            r"'Mixed_3b' of trunk 'r2plus1d_18'; known: stem",
        ),
        ("xnorm", {"trunk": "c3d"}, r"model\.trunk: found 'c3d': input should be 'i3d'"),
        (
            "late",
            {"trunk": "s3d", "width": 0.5},
            r"model: width has no effect when trunk is 's3d'; set model\.width=1\.0",
        ),
        (
            "late",
            {"freeze_trunk": True, "batchnorm_momentum": 0.1},
            r"model: batchnorm_momentum has no effect when freeze_trunk is true.*set model\.batchnorm_momentum=0\.01",
        ),
        (
            "late",
            {"targets": ["verb", "noun"]},
            r"model: num_classes: found 8; allowed: the classes of each of model\.targets, \{verb: N, noun: N\}",
        ),
        ("late", {"num_classes": {"verb": 3}}, r"num_classes: found \{'verb': 3\}; allowed: one number"),
        ("late", {"targets": ["verb", "verb"]}, r"targets: found \['verb', 'verb'\]; allowed: each target once"),
        ("late", {"target_weights": {"noun": 2}}, r"target_weights: found noun; allowed: targets of model\.targets"),
        (
            "late",
            {"targets": ["verb", "noun"], "num_classes": {"verb": 3, "noun": 1}},
            r"model\.num_classes: found 1: input should be greater than 1",
        ),
        ("mult", {"hidden_size": 64}, r"model: hidden_size has no effect when fusion is 'mult'.*model\.attention_size"),
        ("mult", {"attention_size": 32}, r"attention_size must be a multiple of attention_heads, found 32 and 5"),
        ("misa", {"hidden_size": 15}, r"model\.hidden_size: found 15: input should be a multiple of 2"),
        ("misa", {"diff_weigth": 1}, r"model\.diff_weigth: unknown key; did you mean 'diff_weight'\?"),
        ("gblend", {"online": 0}, r"model\.online: found 0: input should be greater than 0"),
        ("tfn", {"online": 1}, r"model\.online: has no effect when fusion is 'tfn' \(it belongs to gblend\)"),
        ("xnorm", {"exchange_after": ["Mixed_4d", "Mixed_3b"]}, r"allowed: each stage once, as the network has them"),
        ("xnorm", {"exchange_after": ["Mixed_3b", "Mixed_3b"]}, r"allowed: each stage once"),
        ("xnorm", {"exchange_order": "serial"}, r"model\.exchange_order: found 'serial': input should be 'parallel'"),
        ("tfm", {}, r"model\.fusion: found 'tfm', allowed: rgb, flow"),
    ],
)
def test_wrong_and_useless_options_are_refused(fusion, options, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(fusion, **options)


@pytest.mark.parametrize("fusion", METHODS)
def test_an_option_of_other_methods_is_refused_with_their_names(fusion):
    foreign = {key for options in METHODS.values() for key in options.model_fields} - METHODS[
        fusion
    ].model_fields.keys()
    assert len(foreign) >= 9
    for key in foreign:
        owner = next(name for name, options in METHODS.items() if key in options.model_fields)
        value = METHODS[owner]().model_dump()[key]
        with pytest.raises(ConfigError, match=rf"model\.{key}: has no effect when fusion is '{fusion}' \(.*{owner}"):
            parse_options(fusion, **{key: value})


@pytest.mark.parametrize("trunk", TRUNK_STAGES)
def test_default_exchanges_are_stages_of_the_trunk(trunk):
    for options in ({}, {"exchange_after": None}):
        assert parse_options("xnorm", trunk=trunk, **options).exchange_after == EXCHANGES[trunk]
    assert set(EXCHANGES[trunk]) < set(TRUNK_STAGES[trunk])
