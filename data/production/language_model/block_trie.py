"""Texts as paths of blocks of token ids: what several texts begin with is one path, which is read once.

A block is `width` ids at the places [level * width, (level + 1) * width) of a text; a text's last one may have fewer.
Texts share a block where its ids and all ids before it are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class TokenBlock:
    """Ids behind those of `parent`. page: where a cache keeps it, or None where no block follows it."""

    ids: tuple[int, ...]
    parent: "TokenBlock | None"
    level: int
    children: dict[tuple[int, ...], "TokenBlock"] = field(default_factory=dict)
    page: int | None = None

    def pages(self) -> list[int]:
        """Pages of the blocks before it, from the first; they must have some."""
        pages, block = [], self.parent
        while block is not None:
            pages.append(block.page)
            block = block.parent
        return pages[::-1]


class BlockTrie:
    """Blocks of texts by what is before them. levels[k]: those that begin at the place k * width."""

    def __init__(self, width: int):
        self.width = width
        self.levels: list[list[TokenBlock]] = []
        self._first: dict[tuple[int, ...], TokenBlock] = {}

    def add(self, ids: Sequence[int]) -> list[TokenBlock]:
        """The blocks of a text, from its first; those that no other text had are new."""
        path, parent, children = [], None, self._first
        for start in range(0, len(ids), self.width):
            part = tuple(ids[start : start + self.width])
            block = children.get(part)
            if block is None:
                block = children[part] = self._new(part, parent)
            path.append(block)
            parent, children = block, block.children
        return path

    @property
    def n_blocks(self) -> int:
        """All blocks."""
        return sum(map(len, self.levels))

    def number_pages(self, start: int) -> int:
        """Give each block that others follow its page, from `start` on; returns how many pages there are with them."""
        for level in self.levels:
            for block in level:
                if block.children:
                    block.page = start
                    start += 1
        return start

    def _new(self, ids: tuple[int, ...], parent: TokenBlock | None) -> TokenBlock:
        level = 0 if parent is None else parent.level + 1
        if level == len(self.levels):
            self.levels.append([])
        block = TokenBlock(ids, parent, level)
        self.levels[level].append(block)
        return block


def tries_of(
    texts: Sequence[Sequence[int]], width: int, max_blocks: int
) -> Iterator[tuple[BlockTrie, list[list[TokenBlock]]]]:
    """(trie, paths of its texts): as many texts in a row as keep a trie within max_blocks, and the one that ends it."""
    trie, paths = BlockTrie(width), []
    for ids in texts:
        paths.append(trie.add(ids))
        if trie.n_blocks >= max_blocks:
            yield trie, paths
            trie, paths = BlockTrie(width), []
    if paths:
        yield trie, paths
