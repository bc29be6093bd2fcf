"""Jobs: training, generating, masks and exports, each a folder on disk and a process of its own."""

from magictailor.studio.jobs.job import ExportSpec, GenerateSpec, Job, MasksSpec, Spec, State, TrainSpec
from magictailor.studio.jobs.runner import Runner
from magictailor.studio.jobs.store import JobStore

__all__ = ["ExportSpec", "GenerateSpec", "Job", "JobStore", "MasksSpec", "Runner", "Spec", "State", "TrainSpec"]
