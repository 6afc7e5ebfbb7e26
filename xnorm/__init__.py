"""What a trained run can be asked from Python: `run = load_run("runs/xnorm")`, then `run.predict("video.mp4")`."""

from xnorm.predictions import Prediction, Predictions, Score
from xnorm.run import TrainedRun, load_run

__all__ = ["Prediction", "Predictions", "Score", "TrainedRun", "load_run"]
