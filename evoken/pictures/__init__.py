"""Pictures of prompts with words in them, and their scores."""
