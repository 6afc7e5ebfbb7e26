"""What a trained run can be asked from Python: `run = load_run("runs/xnorm")`, then `run.predict("video.mp4")`."""

from xnorm.load import load_run
from xnorm.predictions import Prediction, Predictions, Score
from xnorm.run import TrainedRun

__all__ = ["Prediction", "Predictions", "Score", "TrainedRun", "load_run"]
