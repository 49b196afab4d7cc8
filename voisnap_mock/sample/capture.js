// Turns the microphone into what VoiceHub takes: pieces of 20 ms, 320 samples of 16 bits at 16 kHz, whatever rate the
// browser records at. Each sample is the mean of those it stands for, which also keeps higher tones out.

const RATE = 16_000;
const SAMPLES = 320;

class Capture extends AudioWorkletProcessor {
  #piece = new Int16Array(SAMPLES);
  #filled = 0;
  #sum = 0;
  #count = 0;
  #position = 0;

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.#sum += sample;
      this.#count += 1;
      this.#position += RATE / sampleRate;
      if (this.#position < 1) continue;
      this.#position -= 1;
      this.#push(this.#sum / this.#count);
      this.#sum = this.#count = 0;
    }
    return true;
  }

  #push(value) {
    this.#piece[this.#filled++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
    if (this.#filled < SAMPLES) return;
    this.port.postMessage(this.#piece.buffer.slice(0));
    this.#filled = 0;
  }
}

registerProcessor("capture", Capture);
