"""The options of each method: one class a method, told apart by `fusion`; a method knows its own keys and no others."""

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

from common.errors import ConfigError
from common.paths import ConfigPath
from configs.outside import find_class, options_class

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
EXCHANGES = {  # where X-Norm exchanges unless told otherwise: early, in the middle, and after the last stage
    "i3d": ("Mixed_3b", "Mixed_4d", "Mixed_5c"),
    "s3d": ("Mixed_3b", "Mixed_4d", "Mixed_5c"),
    "r2plus1d_18": ("layer2", "layer3", "layer4"),
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


class RgbOptions(CommonOptions):
    """RGB alone."""

    implementation = "models.unimodal:RgbOnly"
    fusion: Literal["rgb"] = "rgb"

    @field_validator("pretrained")
    @classmethod
    def _no_flow(cls, pretrained: Pretrained) -> Pretrained:
        return _unused(pretrained, "flow", fusion=str(cls.model_fields["fusion"].default))


class FlowOptions(CommonOptions):
    """Optical flow alone."""

    implementation = "models.unimodal:FlowOnly"
    fusion: Literal["flow"] = "flow"

    @field_validator("pretrained")
    @classmethod
    def _no_rgb(cls, pretrained: Pretrained) -> Pretrained:
        return _unused(pretrained, "rgb", fusion="flow")


class EarlyOptions(CommonOptions):
    """Both embeddings side by side into one head."""

    implementation = "models.early:EarlyFusion"
    fusion: Literal["early"] = "early"


class TwoHeadOptions(CommonOptions):
    """A head a stream, whose logits are averaged."""

    rgb_weight: float = Field(0.5, ge=0, le=1)


class LateOptions(TwoHeadOptions):
    """A network a stream; their logits averaged."""

    implementation = "models.late:LateFusion"
    fusion: Literal["late"] = "late"


class OgmGeOptions(TwoHeadOptions):
    """OGM-GE: late fusion whose encoders' gradients are modulated by which stream is ahead, under noise."""

    implementation = "models.ogm_ge:OgmGe"
    fusion: Literal["ogm_ge"] = "ogm_ge"
    rgb_weight: float = Field(0.5, gt=0, lt=1)
    alpha: float = Field(0.3, gt=0)
    noise: float = Field(1.0, ge=0)


class MisaOptions(CommonOptions):
    """MISA: what the streams share and what is private to each, told apart by three more losses."""

    implementation = "models.misa:Misa"
    fusion: Literal["misa"] = "misa"
    hidden_size: int = Field(128, gt=0, multiple_of=2)
    diff_weight: float = Field(0.3, ge=0)
    cmd_weight: float = Field(1.0, ge=0)
    recon_weight: float = Field(1.0, ge=0)


class MultOptions(CommonOptions):
    """MulT: each stream's tokens attend to the other's."""

    implementation = "models.mult:MulT"
    fusion: Literal["mult"] = "mult"
    dropout: float = Field(0.1, ge=0, lt=1)
    embed_dropout: float = Field(0.25, ge=0, lt=1)
    attention_size: int = Field(30, ge=4)
    attention_heads: int = Field(5, gt=0)
    attention_layers: int = Field(5, gt=0)

    @model_validator(mode="after")
    def _sizes_that_count(self) -> "MultOptions":
        if self.hidden_size != CommonOptions.model_fields["hidden_size"].default:
            raise ValueError(
                f"hidden_size has no effect when fusion is 'mult', found {self.hidden_size}; set model.attention_size"
            )
        if self.attention_size % self.attention_heads:
            raise ValueError(
                f"attention_size must be a multiple of attention_heads, found {self.attention_size} and "
                f"{self.attention_heads}"
            )
        return self


class GBlendOptions(CommonOptions):
    """Gradient-Blending: a head a stream and one for both, weighted by how each generalises and overfits."""

    implementation = "models.gblend:GradientBlending"
    fusion: Literal["gblend"] = "gblend"
    estimation_epochs: int = Field(5, gt=0)
    estimation_subset: float = Field(1.0, gt=0, le=1)
    estimation_holdout: float = Field(0.2, gt=0, lt=1)
    online: int | None = Field(None, gt=0)


class MMParetoOptions(CommonOptions):
    """MMPareto: a head a stream and one for both; each encoder's joint and own gradient combined without conflict."""

    implementation = "models.mmpareto:MMPareto"
    fusion: Literal["mmpareto"] = "mmpareto"
    gamma: float = Field(1.5, ge=1)


class TfnOptions(CommonOptions):
    """Tensor fusion: the outer product of both embeddings into one head."""

    implementation = "models.tfn:TensorFusion"
    fusion: Literal["tfn"] = "tfn"


def default_exchanges(values: Any) -> Any:
    """Fill in where the trunk exchanges, unless the config says where."""
    if isinstance(values, dict) and values.get("exchange_after") is None:
        return values | {"exchange_after": EXCHANGES.get(values.get("trunk", "i3d"), EXCHANGES["i3d"])}
    return values


class LmfOptions(CommonOptions):
    """Low-rank fusion: tensor fusion whose weights are a sum of products."""

    implementation = "models.lmf:LowRankFusion"
    fusion: Literal["lmf"] = "lmf"
    rank: int = Field(4, gt=0)


class MmtmOptions(TwoHeadOptions):
    """MMTM: each stream's channels are gated by what both streams pool; their logits averaged."""

    implementation = "models.mmtm:Mmtm"
    fusion: Literal["mmtm"] = "mmtm"
    exchange_after: tuple[str, ...] = Field(EXCHANGES["i3d"], min_length=1)
    squeeze_ratio: float = Field(4, ge=1)

    _defaults = model_validator(mode="before")(default_exchanges)
    _known = field_validator("exchange_after")(stages_in_order)


class XNormOptions(TwoHeadOptions):
    """X-Norm: the two trunks exchange normalisation parameters on the way; their logits averaged."""

    implementation = "models.xnorm:XNorm"
    fusion: Literal["xnorm"] = "xnorm"
    exchange_after: tuple[str, ...] = Field(EXCHANGES["i3d"], min_length=1)
    exchange_order: Literal["parallel", "sequential"] = "parallel"
    param_pool: Literal["none", "global"] = "none"

    _defaults = model_validator(mode="before")(default_exchanges)
    _known = field_validator("exchange_after")(stages_in_order)


class DistillOptions(RgbOptions):
    """RGB alone, taught by a frozen run of both streams."""

    implementation = "models.distill:Distill"
    fusion: Literal["distill"] = "distill"  # type: ignore[assignment]
    teacher: ConfigPath | None = None
    temperature: float = Field(4.0, gt=0)
    weight: float = Field(1.0, gt=0)


def _unused(pretrained: Pretrained, stream: str, fusion: str) -> Pretrained:
    if getattr(pretrained, stream) is not None:
        raise ValueError(f"'{stream}' has no effect when fusion is '{fusion}'; set it to null")
    return pretrained


METHODS: dict[str, type[CommonOptions]] = {  # in the order of the classes above
    kind.model_fields["fusion"].default: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, CommonOptions) and "implementation" in vars(kind)
}


def options_of(fusion: str) -> type[CommonOptions]:
    """Return the class of a method's options; one from outside says it by the type of its attribute `options`.

    Raises:
        ConfigError: there is no such method, or none that can be used.
    """
    if fusion in METHODS:
        return METHODS[fusion]
    if ":" not in str(fusion):
        raise ConfigError(f"model.fusion: {unknown_fusion(fusion)}")
    options = options_class(find_class(fusion))
    if not (isinstance(options, type) and issubclass(options, CommonOptions)):
        raise ConfigError(
            f"model.fusion: {fusion} does not say which options it has; derive it from models.FusionModel, and options "
            "of its own from configs.methods.CommonOptions (`options: MyOptions` in the class)"
        )
    return options


def unknown_fusion(fusion: object) -> str:
    """Why `fusion` is refused, and the way out."""
    return f"found {fusion!r}, allowed: {', '.join(METHODS)}, FILE.py:Class{did_you_mean(fusion, METHODS)}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a message with the name that is nearest to a wrong one; empty where none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
