"""Golden values: what Hugging Face transformers answers, written down once. Development only."""
