"""diffusers and transformers, without the notices that their import gives: whatever needs one of
them takes it from here. They take longer to import than all else, so what only reads files stays
without them.
"""

from evoken.quiet import quiet

with quiet():  # diffusers brings in torchao, which says what it was not built for
    import diffusers as diffusers
    import transformers as transformers
    from diffusers import DiffusionPipeline as DiffusionPipeline  # else at its first use, aloud
    from diffusers.loaders import single_file_utils as single_file_utils
