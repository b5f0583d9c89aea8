"""The families of models: what each denoiser reads and how it draws."""
