"""All mutations, by area."""

from dev.mutations.data import DATA
from dev.mutations.evaluation import EVALUATION
from dev.mutations.mutation import Mutation
from dev.mutations.pages import PAGES
from dev.mutations.production import PRODUCTION
from dev.mutations.serving import SERVING
from dev.mutations.streaming import STREAMING
from dev.mutations.training import TRAINING

AREAS: dict[str, tuple[Mutation, ...]] = {
    "data": DATA,
    "streaming": STREAMING,
    "training": TRAINING,
    "evaluation": EVALUATION,
    "production": PRODUCTION,
    "serving": SERVING,
    "pages": PAGES,
}
MUTATIONS = tuple(mutation for area in AREAS.values() for mutation in area)
