"""Steering a trained model: latent directions for attributes that it was not trained to control."""
