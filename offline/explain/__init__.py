"""Why a network decides as it does: one file a method, each giving arrays, figures and a picture."""
