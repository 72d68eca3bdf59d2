"""The page on which people play with a model: `audio-vaegan demo`. No model code here; the only user of gradio."""
