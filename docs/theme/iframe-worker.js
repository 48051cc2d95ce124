// Browsers refuse workers to pages that are opened from the disk, and the site's search runs in a worker. On file:// only,
// the worker's script runs in a hidden frame instead, behind the same interface.
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement('iframe');
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inside = this.frame.contentWindow;
      const load = (source) => new Promise((loaded, failed) => {
        const script = this.inside.document.createElement('script');
        Object.assign(script, { src: source, onload: loaded, onerror: failed });
        this.inside.document.body.append(script);
      });
      const base = new URL(address, location.href);
      this.inside.importScripts = (...sources) => Promise.all(sources.map((each) => load(new URL(each, base))));
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent('message', { data }));
      this.ready = load(base);
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new this.inside.MessageEvent('message', { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
