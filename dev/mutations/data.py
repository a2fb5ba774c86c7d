"""Ways of breaking what is promised of data."""

from dev.mutations.mutation import Mutation

DATA: tuple[Mutation, ...] = ()
