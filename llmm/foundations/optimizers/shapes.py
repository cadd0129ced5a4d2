"""The shapes that the optimizers meet in the default pretraining.

They stand here as a table because this folder imports nothing from the models that are built on it.
"""

Shapes = list[tuple[int, ...]]

LAYERS, WIDTH, HIDDEN, VOCABULARY, HEAD = 4, 192, 512, 2048, 64

# query, key, value and output; gate, up and down of the feed-forward
MUON_SHAPES: Shapes = [*[(WIDTH, WIDTH)] * 4, (HIDDEN, WIDTH), (HIDDEN, WIDTH), (WIDTH, HIDDEN)] * LAYERS
# the embedding (which is the head too), two gains a block and a last one, gains of queries and keys
ADAMW_SHAPES: Shapes = [(VOCABULARY, WIDTH), *[(WIDTH,)] * (2 * LAYERS + 1), *[(HEAD,)] * (2 * LAYERS)]
