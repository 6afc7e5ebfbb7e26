"""The options that every method has: its trunks and their stages, targets, classes, and what of it is trained."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from common.paths import ConfigPath

I3D_STAGES = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
TRUNK_STAGES = {  # in the order of the network; S3D is I3D with separated convolutions
    "i3d": I3D_STAGES,
    "s3d": I3D_STAGES,
    "r2plus1d_18": ("stem", "layer1", "layer2", "layer3", "layer4"),
}


class StrictModel(BaseModel):
    """A group of keys; unknown ones are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Pretrained(StrictModel):
    """Files of Kinetics weights, one a stream; null starts from random weights."""

    rgb: ConfigPath | None = None
    flow: ConfigPath | None = None


TargetName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]


class ClassCounts(int):
    """The classes of several targets together, which is how many logits a head has; `by_target` has each one's."""

    by_target: Mapping[str, int]

    @classmethod
    def of(cls, by_target: Mapping[str, int]) -> "ClassCounts":
        """Add the classes of each target up."""
        counts = cls(sum(by_target.values()))
        counts.by_target = dict(by_target)
        return counts


def _count_classes(found: Any, validate: ValidatorFunctionWrapHandler) -> int:
    if not isinstance(found, Mapping):
        count: int = validate(found)
        return count
    return ClassCounts.of({str(target): validate(count) for target, count in found.items()})


def _plain_count(count: int) -> int | dict[str, int]:
    return dict(count.by_target) if isinstance(count, ClassCounts) else count


NumClasses = Annotated[int, WrapValidator(_count_classes), PlainSerializer(_plain_count)]


def stages_in_order(stages: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Refuse stages that the trunk does not have, or not in this order.

    Raises:
        ValueError: with the nearest name, or the right order.
    """
    trunk = info.data.get("trunk", "i3d")  # not there when it is wrong itself, which is said already
    known = TRUNK_STAGES[trunk]
    for stage in stages:
        if stage not in known:
            hint = did_you_mean(stage, known) or f"; known: {', '.join(known)}"
            raise ValueError(f"unknown stage '{stage}' of trunk '{trunk}'{hint}")
    in_order = [stage for stage in known if stage in stages]
    if list(stages) != in_order:
        raise ValueError(f"found {list(stages)}; allowed: each stage once, as the network has them: {in_order}")
    return stages


class CommonOptions(StrictModel):
    """What every method has: two trunks (or one), a hidden layer, a classification head.

    To a method, `num_classes` is how many logits its head has: with several targets, the classes of all of them.
    """

    implementation: ClassVar[str]  # "module:Class" of a method of the project
    streams: ClassVar[tuple[str, ...]] = ("rgb", "flow")  # that it has a trunk for

    fusion: str
    trunk: Literal["i3d", "s3d", "r2plus1d_18"] = "i3d"
    targets: tuple[TargetName, ...] | None = Field(None, min_length=1)
    num_classes: NumClasses = Field(8, gt=1)
    target_weights: dict[TargetName, Annotated[float, Field(gt=0)]] | None = None
    hidden_size: int = Field(128, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    width: float = Field(1.0, gt=0, le=4)
    batchnorm_momentum: float = Field(0.01, gt=0, le=1)
    freeze_trunk: bool = False
    freeze: tuple[str, ...] = ()
    freeze_bn: bool = False
    checkpoint_stages: tuple[str, ...] = ()
    pretrained: Pretrained = Pretrained()

    _known_stages = field_validator("freeze", "checkpoint_stages")(stages_in_order)

    @field_validator("checkpoint_stages", mode="before")
    @classmethod
    def _all_stages(cls, stages: Any, info: ValidationInfo) -> Any:
        return TRUNK_STAGES[info.data.get("trunk", "i3d")] if stages == "all" else stages

    @property
    def measured(self) -> list[str]:
        """The targets that have metrics of their own: where there are several, all; actions beside verbs and nouns."""
        named = list(self.targets or ())
        if "action" in named:
            named += ["verb", "noun"]
        if {"verb", "noun"} <= set(named):
            named.append("action")
        return list(dict.fromkeys(named)) if len(named) > 1 else []

    @field_validator("pretrained", mode="before")
    @classmethod
    def _null_is_none_of_them(cls, pretrained: Any) -> Any:
        return {} if pretrained is None else pretrained

    @field_validator("pretrained")
    @classmethod
    def _weights_of_its_trunks(cls, pretrained: Pretrained, info: ValidationInfo) -> Pretrained:
        for stream, path in pretrained:
            if path is not None and stream not in cls.streams:
                raise ValueError(f"'{stream}' has no effect when fusion is '{info.data['fusion']}'; set it to null")
        return pretrained

    @model_validator(mode="after")
    def _classes_of_each_target(self) -> "CommonOptions":
        targets = self.targets or ()
        if len(set(targets)) < len(targets):
            raise ValueError(f"targets: found {list(targets)}; allowed: each target once")
        counted = set(self.num_classes.by_target) if isinstance(self.num_classes, ClassCounts) else None
        if counted != (set(targets) if len(targets) > 1 else None):
            each = ", ".join(f"{target}: N" for target in targets)
            allowed = f"the classes of each of model.targets, {{{each}}}" if len(targets) > 1 else "one number"
            raise ValueError(f"num_classes: found {_plain_count(self.num_classes)}; allowed: {allowed}")
        unknown = set(self.target_weights or ()) - (set(targets) if len(targets) > 1 else set())
        if unknown:
            raise ValueError(
                f"target_weights: found {', '.join(sorted(unknown))}; allowed: targets of model.targets, of which "
                "there are several"
            )
        return self

    @model_validator(mode="after")
    def _momentum_of_what_learns(self) -> "CommonOptions":
        default = CommonOptions.model_fields["batchnorm_momentum"].default
        if self.frozen_norms and self.batchnorm_momentum != default:
            raise ValueError(
                f"batchnorm_momentum has no effect when {self.frozen_norms} is true: frozen statistics stay as they "
                f"are; set model.batchnorm_momentum={default:g} or model.{self.frozen_norms}=false"
            )
        return self

    @model_validator(mode="after")
    def _frozen_once(self) -> "CommonOptions":
        if self.freeze_trunk and (self.freeze or self.freeze_bn):
            name = "freeze" if self.freeze else "freeze_bn"
            raise ValueError(f"{name} has no effect when freeze_trunk is true, which freezes all of it; remove one")
        return self

    @property
    def frozen_norms(self) -> str | None:
        """The key that freezes the BatchNorm of all stages."""
        return "freeze_trunk" if self.freeze_trunk else "freeze_bn" if self.freeze_bn else None

    @model_validator(mode="after")
    def _published_width(self) -> "CommonOptions":
        if self.width != 1 and self.trunk != "i3d":
            raise ValueError(
                f"width has no effect when trunk is '{self.trunk}'; set model.width=1.0 or model.trunk=i3d"
            )
        if self.width != 1 and (self.pretrained.rgb or self.pretrained.flow):
            raise ValueError(
                f"pretrained weights fit width 1.0 alone, found width {self.width:g}; set model.width=1.0 or "
                "model.pretrained={rgb: null, flow: null}"
            )
        return self


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a message with the name that is nearest to a wrong one; empty where none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
