"""The options of each method: one class a method, told apart by `fusion`; a method knows its own keys and no others."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from common.errors import ConfigError
from common.paths import ConfigPath
from configs.options import CommonOptions, did_you_mean, stages_in_order
from configs.outside import find_class, options_class

EXCHANGES = {  # where trunks meet unless told otherwise: early, in the middle, and after the last stage
    "i3d": ("Mixed_3b", "Mixed_4d", "Mixed_5c"),
    "s3d": ("Mixed_3b", "Mixed_4d", "Mixed_5c"),
    "r2plus1d_18": ("layer2", "layer3", "layer4"),
}


class RgbOptions(CommonOptions):
    """RGB alone."""

    implementation = "models.methods.unimodal:RgbOnly"
    streams = ("rgb",)
    fusion: Literal["rgb"] = "rgb"


class FlowOptions(CommonOptions):
    """Optical flow alone."""

    implementation = "models.methods.unimodal:FlowOnly"
    streams = ("flow",)
    fusion: Literal["flow"] = "flow"


class EarlyOptions(CommonOptions):
    """Both embeddings side by side into one head."""

    implementation = "models.methods.early:EarlyFusion"
    fusion: Literal["early"] = "early"


class TwoHeadOptions(CommonOptions):
    """A head a stream, whose logits are averaged."""

    rgb_weight: float = Field(0.5, ge=0, le=1)


class LateOptions(TwoHeadOptions):
    """A network a stream; their logits averaged."""

    implementation = "models.methods.late:LateFusion"
    fusion: Literal["late"] = "late"


class OgmGeOptions(TwoHeadOptions):
    """OGM-GE: late fusion whose encoders' gradients are modulated by which stream is ahead, under noise."""

    implementation = "models.methods.ogm_ge:OgmGe"
    fusion: Literal["ogm_ge"] = "ogm_ge"
    rgb_weight: float = Field(0.5, gt=0, lt=1)
    alpha: float = Field(0.3, gt=0)
    noise: float = Field(1.0, ge=0)


class MisaOptions(CommonOptions):
    """MISA: what the streams share and what is private to each, told apart by three more losses."""

    implementation = "models.methods.misa:Misa"
    fusion: Literal["misa"] = "misa"
    hidden_size: int = Field(128, gt=0, multiple_of=2)
    diff_weight: float = Field(0.3, ge=0)
    cmd_weight: float = Field(1.0, ge=0)
    recon_weight: float = Field(1.0, ge=0)


class MultOptions(CommonOptions):
    """MulT: each stream's tokens attend to the other's."""

    implementation = "models.methods.mult:MulT"
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

    implementation = "models.methods.gblend:GradientBlending"
    fusion: Literal["gblend"] = "gblend"
    estimation_epochs: int = Field(5, gt=0)
    estimation_subset: float = Field(1.0, gt=0, le=1)
    estimation_holdout: float = Field(0.2, gt=0, lt=1)
    online: int | None = Field(None, gt=0)


class MMParetoOptions(CommonOptions):
    """MMPareto: a head a stream and one for both; each encoder's joint and own gradient combined without conflict."""

    implementation = "models.methods.mmpareto:MMPareto"
    fusion: Literal["mmpareto"] = "mmpareto"
    gamma: float = Field(1.5, ge=1)


class TfnOptions(CommonOptions):
    """Tensor fusion: the outer product of both embeddings into one head."""

    implementation = "models.methods.tfn:TensorFusion"
    fusion: Literal["tfn"] = "tfn"


class LmfOptions(CommonOptions):
    """Low-rank fusion: tensor fusion whose weights are a sum of products."""

    implementation = "models.methods.lmf:LowRankFusion"
    fusion: Literal["lmf"] = "lmf"
    rank: int = Field(4, gt=0)


class ExchangeOptions(TwoHeadOptions):
    """A network and a head a stream, which meet after some stages of the networks."""

    exchange_after: tuple[str, ...] = Field(None, min_length=1, validate_default=True)

    _known = field_validator("exchange_after")(stages_in_order)

    @field_validator("exchange_after", mode="before")
    @classmethod
    def _those_of_the_trunk(cls, stages: Any, info: ValidationInfo) -> Any:
        return EXCHANGES[info.data.get("trunk", "i3d")] if stages is None else stages


class MmtmOptions(ExchangeOptions):
    """MMTM: each stream's channels are gated by what both streams pool; their logits averaged."""

    implementation = "models.methods.mmtm:Mmtm"
    fusion: Literal["mmtm"] = "mmtm"
    squeeze_ratio: float = Field(4, ge=1)


class XNormOptions(ExchangeOptions):
    """X-Norm: the two trunks exchange normalisation parameters on the way; their logits averaged."""

    implementation = "models.methods.xnorm:XNorm"
    fusion: Literal["xnorm"] = "xnorm"
    exchange_order: Literal["parallel", "sequential"] = "parallel"
    param_pool: Literal["none", "global"] = "none"


class DistillOptions(RgbOptions):
    """RGB alone, taught by a frozen run of both streams."""

    implementation = "models.methods.distill:Distill"
    fusion: Literal["distill"] = "distill"  # type: ignore[assignment]
    teacher: ConfigPath | None = None
    temperature: float = Field(4.0, gt=0)
    weight: float = Field(1.0, gt=0)


METHODS: dict[str, type[CommonOptions]] = {  # in the order of the classes above
    kind.model_fields["fusion"].default: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, CommonOptions) and "implementation" in vars(kind)
}


def options_of(fusion: object) -> type[CommonOptions]:
    """Return the class of a method's options; one from outside says it by the type of its attribute `options`.

    Raises:
        ConfigError: there is no such method, or none that can be used.
    """
    if not isinstance(fusion, str) or (fusion not in METHODS and ":" not in fusion):
        raise ConfigError(f"model.fusion: {unknown_fusion(fusion)}")
    if fusion in METHODS:
        return METHODS[fusion]
    options = options_class(find_class(fusion))
    if not (isinstance(options, type) and issubclass(options, CommonOptions)):
        raise ConfigError(
            f"model.fusion: {fusion} does not say which options it has; derive it from models.FusionModel, and options "
            "of its own from configs.options.CommonOptions (`options: MyOptions` in the class)"
        )
    return options


def unknown_fusion(fusion: object) -> str:
    """Why `fusion` is refused, and the way out."""
    return f"found {fusion!r}, allowed: {', '.join(METHODS)}, FILE.py:Class{did_you_mean(fusion, METHODS)}"
