"""When each word of a known text ends in its recording: pocketsphinx held to that text.

It is an ear of its own: the recogniser that is measured has no say in when a word was said.
"""

import ctypes
import re

MODEL = "/usr/share/pocketsphinx/model/en-us"
FRAME_S = 0.01


class WordTimes:
    def __init__(self):
        base = ctypes.CDLL("libsphinxbase.so.3")
        self.lib = ctypes.CDLL("libpocketsphinx.so.3")
        for library, name in ((base, "cmd_ln_init"), (self.lib, "ps_args"), (self.lib, "ps_init"),
                              (self.lib, "ps_lookup_word"), (self.lib, "ps_seg_iter"), (self.lib, "ps_seg_next")):
            getattr(library, name).restype = ctypes.c_void_p
        self.lib.ps_seg_word.restype = ctypes.c_char_p
        options = []
        for key, value in (("-hmm", f"{MODEL}/en-us"), ("-dict", f"{MODEL}/cmudict-en-us.dict"),
                           ("-logfn", "/dev/null"), ("-beam", "1e-80"), ("-pbeam", "1e-80"), ("-wbeam", "1e-60")):
            options += [ctypes.c_char_p(key.encode()), ctypes.c_char_p(value.encode())]
        config = base.cmd_ln_init(None, ctypes.c_void_p(self.lib.ps_args()), 1, *options, None)
        self.decoder = ctypes.c_void_p(self.lib.ps_init(ctypes.c_void_p(config)) if config else None)
        if not self.decoder:
            raise OSError(f"pocketsphinx does not load {MODEL}")

    def ends(self, words, pcm):
        """Seconds at which each of `words` ends in the 16 kHz sound; None when it cannot say."""
        if not all(self.lib.ps_lookup_word(self.decoder, word.encode()) for word in words):
            return None
        grammar = f"#JSGF V1.0;\ngrammar g;\npublic <g> = {' '.join(words)};\n"
        self.lib.ps_set_jsgf_string(self.decoder, b"text", grammar.encode())
        self.lib.ps_set_search(self.decoder, b"text")
        self.lib.ps_start_utt(self.decoder)
        self.lib.ps_process_raw(self.decoder, pcm, ctypes.c_size_t(len(pcm) // 2), 0, 1)
        self.lib.ps_end_utt(self.decoder)
        said = self.segments()
        return [end for _, end in said] if [word for word, _ in said] == list(words) else None

    def segments(self):
        said = []
        first, last = ctypes.c_int(), ctypes.c_int()
        segment = self.lib.ps_seg_iter(self.decoder)
        while segment:
            handle = ctypes.c_void_p(segment)
            word = re.sub(r"\([0-9]+\)$", "", self.lib.ps_seg_word(handle).decode())
            self.lib.ps_seg_frames(handle, ctypes.byref(first), ctypes.byref(last))
            if not word.startswith(("<", "[", "+", "(")):
                said.append((word, (last.value + 1) * FRAME_S))
            segment = self.lib.ps_seg_next(handle)
        return said
