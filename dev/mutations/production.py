"""Ways of breaking what is promised of production."""

from dev.mutations.mutation import Mutation

PRODUCTION: tuple[Mutation, ...] = ()
