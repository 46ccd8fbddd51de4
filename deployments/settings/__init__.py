"""All settings of nirflow as typed models, read from nirflow.toml, the environment and secret files."""
