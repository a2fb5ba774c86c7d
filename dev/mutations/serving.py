"""Ways of breaking what is promised of serving."""

from dev.mutations.mutation import Mutation

SERVING: tuple[Mutation, ...] = ()
