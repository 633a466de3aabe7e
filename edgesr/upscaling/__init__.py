"""`upscale`, the verb: pictures, folders, films and live sources made larger."""
