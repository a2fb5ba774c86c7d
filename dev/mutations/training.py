"""Ways of breaking what is promised of training."""

from dev.mutations.mutation import Mutation

TRAINING: tuple[Mutation, ...] = ()
