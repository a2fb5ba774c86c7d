"""Ways of breaking what is promised of evaluation."""

from dev.mutations.mutation import Mutation

EVALUATION: tuple[Mutation, ...] = ()
