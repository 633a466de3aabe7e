"""Films and live sources made larger, frame by frame; networks are given as functions."""

from edgesr.film.live import upscale_live
from edgesr.film.options import FilmOptions, FilmResult, is_film, is_live
from edgesr.film.whole import upscale_film

__all__ = ["FilmOptions", "FilmResult", "is_film", "is_live", "upscale_film", "upscale_live"]
