// The session manager's calls, each as one HTTP request to a lastseen service. Plain JavaScript, no dependencies:
// Node.js 18 or newer, or a browser.
//
//   import { SessionManager } from './session-manager.mjs';
//
//   const sessions = new SessionManager({ url: 'http://127.0.0.1:8321' });
//   await sessions.createSession('conversation-1', 'chat-1');
//   const session = await sessions.getSession('conversation-1');
//
// Unlike the predecessor's, every call returns a promise: the sessions are in the service, for all of its callers.

const FOUND = [200, 404, 410];
const EXISTS = '/problems/session-exists';
const SUSPENDED = '/problems/session-suspended';

/** The service refused a request, for a reason that the calls below do not expect. */
export class ServiceError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `HTTP ${status}`);
    this.name = 'ServiceError';
    /** The HTTP status. */
    this.status = status;
    /** Which kind of problem, such as `/problems/log-unavailable`: compare this, and show the message to people. */
    this.type = problem.type ?? 'about:blank';
  }
}

export class SessionManager {
  /**
   * @param {object} [options]
   * @param {string} [options.url] where the service is
   * @param {string} [options.token] a token of the service: scopes touch and manage; admin for cleanup
   * @param {number} [options.sessionTimeout] milliseconds after which an unused session is over
   * @param {number} [options.requestTimeout] milliseconds after which a request is given up
   * @param {() => number} [options.now] the clock for ages
   */
  constructor(options = {}) {
    this.url = (options.url ?? 'http://127.0.0.1:8321').replace(/\/+$/, '');
    this.sessionTimeout = options.sessionTimeout ?? 30 * 60 * 1000;
    this.requestTimeout = options.requestTimeout ?? 10_000;
    this.now = options.now ?? Date.now;
    this.headers = options.token ? { Authorization: `Bearer ${options.token}` } : {};
    this.ending = new AbortController();
  }

  /** POST /v1/sessions. Where one lives under this id, a second request puts the new one in its place. */
  async createSession(conversationId, chatId, parentId = null) {
    const attributes = parentId === null ? { chat_id: chatId } : { chat_id: chatId, parent_id: parentId };
    // The predecessor ended a session when *more* than the timeout had passed.
    const policy = { idle_ttl_ms: this.sessionTimeout + 1 };
    const wanted = { key: conversationId, attributes, policy, if_exists: 'refuse' };
    const { status, body } = await this.request('POST', '/v1/sessions', wanted, [201, EXISTS]);
    if (status === 201) return shown(body);
    const replacing = { reason: 'replaced', attributes, policy };
    const replaced = await this.request('POST', pathOf(conversationId, 'rotate'), replacing, FOUND);
    // It ended in between: then there is nothing in the way any more.
    return replaced.status === 200 ? shown(replaced.body) : this.createSession(conversationId, chatId, parentId);
  }

  /** POST /v1/sessions/{id}/touch. Restarts the timeout; null if the id is unknown or the session is over. */
  async getSession(conversationId) {
    const { status, body } = await this.request('POST', pathOf(conversationId, 'touch'), undefined, [...FOUND, SUSPENDED]);
    if (status === 200) return shown(body);
    // Another caller has suspended it: it exists, and stays.
    return body?.type === SUSPENDED ? this.getSessionInfo(conversationId) : null;
  }

  /** POST /v1/sessions/{id}/touch with the new id. Counts as activity; whether the session is there. */
  async updateParentId(conversationId, parentId) {
    const change = { attributes: { parent_id: parentId } };
    const { status } = await this.request('POST', pathOf(conversationId, 'touch'), change, FOUND);
    return status === 200;
  }

  /** DELETE /v1/sessions/{id}. Whether the session was there. */
  async deleteSession(conversationId) {
    const { status } = await this.request('DELETE', pathOf(conversationId), undefined, [204, 404, 410]);
    return status === 204;
  }

  /** GET /v1/sessions/{id}. The session and its age in milliseconds; no activity. */
  async getSessionInfo(conversationId) {
    const { status, body } = await this.request('GET', pathOf(conversationId), undefined, FOUND);
    return status === 200 ? { ...shown(body), age: this.age(body.created_at_ms) } : null;
  }

  /** GET /v1/sessions, one request a thousand sessions. Pairs of id and session, oldest first; no activity. */
  async getAllSessions() {
    const all = [];
    let cursor = null;
    do {
      const after = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const { body } = await this.request('GET', `/v1/sessions?sort=created&limit=1000${after}`, undefined, [200]);
      for (const session of body.sessions) all.push([session.key, shown(session)]);
      cursor = body.cursor;
    } while (cursor !== null);
    return all;
  }

  /** GET /v1/statistics. The predecessor's metrics; ages in milliseconds, null where there is no session. */
  async getMetrics() {
    const { body } = await this.request('GET', '/v1/statistics', undefined, [200]);
    const ended = Object.values(body.ended).reduce((sum, count) => sum + count, 0);
    return {
      activeSessions: body.live,
      totalCreated: body.created,
      totalCleaned: ended - (body.ended.replaced ?? 0),
      oldestSession: this.age(body.oldest_created_at_ms),
      newestSession: this.age(body.newest_created_at_ms),
    };
  }

  /** GET /v1/statistics. */
  async getSessionCount() {
    return (await this.getMetrics()).activeSessions;
  }

  /** GET /v1/statistics. */
  async getOldestSessionAge() {
    return (await this.getMetrics()).oldestSession;
  }

  /** GET /v1/statistics. */
  async getNewestSessionAge() {
    return (await this.getMetrics()).newestSession;
  }

  /** POST /v1/prune: what is over; where anything is, once more, to end just that. How many sessions it ended. */
  async cleanup() {
    let cleaned = 0;
    let left = 0;
    do {
      const { body: planned } = await this.request('POST', '/v1/prune', {}, [200]);
      if (planned.due.length === 0) break;
      const { body: done } = await this.request('POST', '/v1/prune', { apply: planned.plan }, [200]);
      cleaned += done.due.filter((each) => each.outcome === 'ended').length;
      left = planned.due_total - planned.due.length; // one plan has at most ten thousand
    } while (left > 0);
    return cleaned;
  }

  /** Ends every session, with one DELETE each; how many were there. */
  async clearAll() {
    let cleared = 0;
    for (const [conversationId] of await this.getAllSessions()) {
      if (await this.deleteSession(conversationId)) cleared += 1;
    }
    return cleared;
  }

  /** Aborts requests in progress; later calls fail. May be called again. The sessions stay in the service. */
  shutdown() {
    this.ending.abort(new Error('the session manager was shut down'));
  }

  age(createdAtMs) {
    return createdAtMs === null ? null : Math.max(this.now() - createdAtMs, 0);
  }

  async request(method, path, sent, expected) {
    this.ending.signal.throwIfAborted();
    const aborting = new AbortController();
    const giveUp = () => aborting.abort(this.ending.signal.reason);
    this.ending.signal.addEventListener('abort', giveUp);
    const late = new Error(`${method} ${path}: no answer in ${this.requestTimeout} ms`);
    const timer = setTimeout(() => aborting.abort(late), this.requestTimeout);
    try {
      const answer = await fetch(this.url + path, {
        method,
        headers: sent === undefined ? this.headers : { ...this.headers, 'Content-Type': 'application/json' },
        body: sent === undefined ? undefined : JSON.stringify(sent),
        signal: aborting.signal,
      });
      const body = parsed(await answer.text());
      if (!expected.some((each) => each === answer.status || each === body?.type)) {
        throw new ServiceError(answer.status, body ?? {});
      }
      return { status: answer.status, body };
    } finally {
      clearTimeout(timer);
      this.ending.signal.removeEventListener('abort', giveUp);
    }
  }
}

function parsed(text) {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    return null; // Something between us and the service has answered: its text is no problem document.
  }
}

function pathOf(conversationId, verb) {
  const id = String(conversationId);
  if (id === '.' || id === '..') throw new RangeError(`an id of a URL's path cannot be ${id}`);
  const path = `/v1/sessions/${encodeURIComponent(id)}`;
  return verb === undefined ? path : `${path}/${verb}`;
}

function shown(session) {
  return {
    chatId: session.attributes.chat_id ?? '',
    parentId: session.attributes.parent_id ?? null,
    createdAt: session.created_at_ms,
    lastAccessed: session.last_active_at_ms,
  };
}
