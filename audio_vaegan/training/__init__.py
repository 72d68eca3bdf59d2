"""The engine, the step of the VAE-GAN, checkpoints and the running average. The only user of accelerate."""
