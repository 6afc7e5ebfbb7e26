"""The configuration: typed sections, validated where they are declared, and how YAML files become them."""

from common.errors import ConfigError, UserError
from configs.load import load_config
from configs.schema import Config

__all__ = ["Config", "ConfigError", "UserError", "load_config"]
