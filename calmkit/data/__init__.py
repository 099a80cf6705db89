"""Text: corpora, tokenizers, packed token files, batches."""
