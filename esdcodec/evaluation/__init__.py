"""Scores of codecs on recordings. What is exported here is public; it is imported when first used."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .evaluate import Evaluator, Failure, evaluate_files
    from .metrics import METRICS, MissingPackage, load_metric
    from .pair import NotScorable, Pair
    from .settings import EvaluationSettings
    from .store import ScoreStore
    from .summary import Estimate, FileScores, by_group, file_scores, summarise
    from .systems import PEERS, System, SystemFailed
    from .usage import CodebookUsage

__all__ = [
    "METRICS",
    "PEERS",
    "CodebookUsage",
    "Estimate",
    "EvaluationSettings",
    "Evaluator",
    "Failure",
    "FileScores",
    "MissingPackage",
    "NotScorable",
    "Pair",
    "ScoreStore",
    "System",
    "SystemFailed",
    "by_group",
    "evaluate_files",
    "file_scores",
    "load_metric",
    "summarise",
]

_HOME = {
    **dict.fromkeys(("Evaluator", "Failure", "evaluate_files"), ".evaluate"),
    **dict.fromkeys(("METRICS", "MissingPackage", "load_metric"), ".metrics"),
    **dict.fromkeys(("NotScorable", "Pair"), ".pair"),
    **dict.fromkeys(("Estimate", "FileScores", "by_group", "file_scores", "summarise"), ".summary"),
    **dict.fromkeys(("PEERS", "System", "SystemFailed"), ".systems"),
    "CodebookUsage": ".usage",
    "EvaluationSettings": ".settings",
    "ScoreStore": ".store",
}
__getattr__, __dir__ = lazy_names(__name__, _HOME)
