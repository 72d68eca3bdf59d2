"""Encoder, generator, critic (discriminator and heads), the VAE-GAN that wires them, vocoder, and the bundle."""
