// Runs where the sound is: what the microphone gives becomes PCM16, 20 ms a message.

const PIECES_PER_S = 50;

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.begin();
  }

  begin() {
    this.samples = new Int16Array(Math.round(sampleRate / PIECES_PER_S));
    this.n = 0;
  }

  add(value) {
    this.samples[this.n++] = Math.max(-32768, Math.min(32767, Math.round(value * 32767)));
    if (this.n === this.samples.length) {
      this.port.postMessage(this.samples.buffer, [this.samples.buffer]);
      this.begin();
    }
  }

  process([channels]) {
    for (let i = 0; channels.length > 0 && i < channels[0].length; i++) {
      this.add(channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
