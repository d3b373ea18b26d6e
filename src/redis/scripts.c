// Why scripts: what decides (whose is the slug, what does the stream end with) and what is done
// then must be one step, because several nodes do it at once. Each is a few lookups; none walks a
// stream.
#include "room.h"

// What the stream ends with: epoch and seq of its last entry, which may be (0, 0), and its message.
// Whatever is larger than all that nodes give out is 2^53: an id's numbers have 64 bits, more than
// Lua has, and what it would make of them need not fit in an answer.
#define LAST                                                                                       \
  "local function last(key)\n"                                                                     \
  "  local entry = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]\n"                        \
  "  if not entry then return 0, 0, '' end\n"                                                      \
  "  local epoch, seq = string.match(entry[1], '^(%d+)-(%d+)$')\n"                                 \
  "  local message = ''\n"                                                                         \
  "  for i = 1, #entry[2], 2 do\n"                                                                 \
  "    if entry[2][i] == 'message' then message = entry[2][i + 1] end\n"                           \
  "  end\n"                                                                                        \
  "  return math.min(tonumber(epoch), 2 ^ 53), math.min(tonumber(seq), 2 ^ 53), message\n"         \
  "end\n"
// Whose the slug is: node and epoch, which may be '' and 0. What has an epoch that nobody can have
// given out is nobody's.
#define OWNER                                                                                      \
  "local function owner(key)\n"                                                                    \
  "  local value = redis.call('GET', key)\n"                                                       \
  "  local is_known, whose = pcall(cjson.decode, value or '')\n"                                   \
  "  if not is_known or type(whose) ~= 'table' then return '', 0 end\n"                            \
  "  local epoch = math.floor(tonumber(whose.epoch) or 0)\n"                                       \
  "  if not (epoch > 0 and epoch <= 2 ^ 52) then return '', 0 end\n"                               \
  "  return tostring(whose.node or ''), epoch\n"                                                   \
  "end\n"
// Whether a message is of the node that has ARGV's name, which is JSON: what stands before
// ',"epoch":' in a message is its node.
#define OURS                                                                                       \
  "local function is_ours(text, name)\n"                                                           \
  "  local said, at = '\"node\":' .. name, string.find(text, ',\"epoch\":', 1, true) or 1\n"       \
  "  return string.sub(text, math.max(1, at - #said), at - 1) == said\n"                           \
  "end\n"
#define NUMBER "local function number(n) return string.format('%.0f', n) end\n"
// The value of the owner's key, and a message on ctl; `node` is JSON already.
#define SAY                                                                                        \
  NUMBER "local function owned(node, epoch)\n"                                                     \
         "  return '{\"node\":' .. node .. ',\"epoch\":' .. number(epoch) .. '}'\n"                \
         "end\n"                                                                                   \
         "local function say(channel, what, node, epoch)\n"                                        \
         "  redis.call('PUBLISH', channel, '{\"type\":\"' .. what .. '\",\"node\":' ..\n"          \
         "    node .. ',\"epoch\":' .. number(epoch) .. '}')\n"                                    \
         "end\n"

const char *const redis_scripts[N_SCRIPTS] = {
    // KEYS history, live. ARGV epoch, seq, epoch and seq of what it must follow (-1: of any older
    // epoch, and 1: there must be one), the epoch that is ours, message, entries, time to live.
    // What stands before ',"epoch":' in a message is its node: an entry of our epoch by another's
    // hand ends it, because the slug was thought lost, or was numbered twice. Answers
    // {what, epoch, seq}: 0 written, 1 it was there, 2 a hole, 3 fenced; and what the stream ended
    // with.
    [SCRIPT_WRITE] = LAST
    "local epoch, seq, own = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[5])\n"
    "local last_epoch, last_seq, message = last(KEYS[1])\n"
    "local function node(text)\n"
    "  return string.sub(text, 1, string.find(text, ',\"epoch\":', 1, true) or 0)\n"
    "end\n"
    "if last_epoch > own or\n"
    "   (last_epoch == own and node(message) ~= node(ARGV[6])) then\n"
    "  return {3, last_epoch, last_seq}\n"
    "end\n"
    "if last_epoch > epoch or (last_epoch == epoch and last_seq >= seq and last_epoch > 0) then\n"
    "  return {1, last_epoch, last_seq}\n"
    "end\n"
    "if ARGV[3] == '-1' then\n"
    "  if last_epoch == 0 and ARGV[4] == '1' then return {2, 0, 0} end\n"
    "elseif last_epoch ~= tonumber(ARGV[3]) or last_seq ~= tonumber(ARGV[4]) then\n"
    "  return {2, last_epoch, last_seq}\n"
    "end\n"
    "redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[7], ARGV[1] .. '-' .. ARGV[2],\n"
    "  'message', ARGV[6])\n"
    "redis.call('PEXPIRE', KEYS[1], ARGV[8])\n"
    "redis.call('PUBLISH', KEYS[2], ARGV[6])\n"
    "return {0, epoch, seq}\n",

    // KEYS owner, history, live. ARGV epoch, seq, after seq, message, entries, time to live.
    // Answers 1 said, 0 refused.
    [SCRIPT_ORPHAN] =
        LAST "local last_epoch, last_seq = last(KEYS[2])\n"
             "if redis.call('EXISTS', KEYS[1]) == 1 or last_epoch ~= tonumber(ARGV[1]) or\n"
             "   last_seq ~= tonumber(ARGV[3]) then\n"
             "  return 0\n"
             "end\n"
             "redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], ARGV[1] .. '-' .. ARGV[2],\n"
             "  'message', ARGV[4])\n"
             "redis.call('PEXPIRE', KEYS[2], ARGV[6])\n"
             "redis.call('PUBLISH', KEYS[3], ARGV[4])\n"
             "return 1\n",

    // KEYS owner, history, ctl. ARGV node, the epoch's floor, time to live of the owner, of the
    // stream. Answers {our epoch, node and epoch of the owner before, what the stream ends with};
    // our epoch is -1 where it would have to be larger than VC_EPOCH_MAX: nothing was done then.
    [SCRIPT_CLAIM] = LAST OWNER SAY
    "local before, before_epoch = owner(KEYS[1])\n"
    "local last_epoch, last_seq = last(KEYS[2])\n"
    "local epoch = math.max(tonumber(ARGV[2]), before_epoch + 1, last_epoch + 1)\n"
    "if epoch > 2 ^ 52 then\n"
    "  return {-1, before, before_epoch, last_epoch, last_seq}\n"
    "end\n"
    "redis.call('SET', KEYS[1], owned(ARGV[1], epoch), 'PX', ARGV[3])\n"
    "redis.call('PEXPIRE', KEYS[2], ARGV[4])\n"
    "say(KEYS[3], 'take', ARGV[1], epoch)\n"
    "return {epoch, before, before_epoch, last_epoch, last_seq}\n",

    // KEYS owner, history, ctl. ARGV node, our epoch, time to live of the owner, of the stream,
    // node as it is. The larger epoch wins; of two that are equal the one that is there. A key that
    // is ours is not set again: a Redis that is full refuses that. Answers
    // {what, node and epoch of the owner, what the stream ends with}: 0 ours, 1 another's, 2
    // fenced by what the stream holds.
    [SCRIPT_RENEW] = LAST OWNER SAY OURS
    "local epoch = tonumber(ARGV[2])\n"
    "local whose, whose_epoch = owner(KEYS[1])\n"
    "local last_epoch, last_seq, message = last(KEYS[2])\n"
    "if whose_epoch > epoch or (whose_epoch == epoch and whose ~= ARGV[5]) then\n"
    "  return {whose == ARGV[5] and 2 or 1, whose, whose_epoch, last_epoch, last_seq}\n"
    "end\n"
    "if last_epoch > epoch or (last_epoch == epoch and not is_ours(message, ARGV[1])) then\n"
    "  return {2, whose, whose_epoch, last_epoch, last_seq}\n"
    "end\n"
    "redis.call('PEXPIRE', KEYS[2], ARGV[4])\n"
    "if whose_epoch == epoch then\n"
    "  redis.call('PEXPIRE', KEYS[1], ARGV[3])\n"
    "else\n"
    "  redis.call('SET', KEYS[1], owned(ARGV[1], epoch), 'PX', ARGV[3])\n"
    "  say(KEYS[3], 'take', ARGV[1], epoch)\n"
    "end\n"
    "return {0, whose, whose_epoch, last_epoch, last_seq}\n",

    // KEYS history. ARGV our epoch, the last seq that we have of it, node. Answers {what the stream
    // ends with, 1: that is by our hand, the last seq in it of those that are ours: -1 none is}:
    // what
    // others say for us is numbered far beyond.
    [SCRIPT_LOOK] = LAST OURS
    "local last_epoch, last_seq, message = last(KEYS[1])\n"
    "local ours = redis.call('XREVRANGE', KEYS[1], ARGV[1] .. '-' .. ARGV[2], ARGV[1] .. '-0',\n"
    "  'COUNT', 1)[1]\n"
    "return {last_epoch, last_seq, is_ours(message, ARGV[3]) and 1 or 0,\n"
    "  ours and tonumber(string.match(ours[1], '%d+$')) or -1}\n",

    // KEYS owner, history, ctl. ARGV node, epoch, node as it is, time to live of the stream, 1:
    // the stream holds all of it, and who waits for that need not wait any longer. Answers 1: it
    // was ours, else 0.
    [SCRIPT_RELEASE] =
        OWNER SAY "local whose, whose_epoch = owner(KEYS[1])\n"
                  "local is_ours = whose == ARGV[3] and whose_epoch <= tonumber(ARGV[2])\n"
                  "if is_ours then redis.call('DEL', KEYS[1]) end\n"
                  "redis.call('PEXPIRE', KEYS[2], ARGV[4])\n"
                  "if ARGV[5] == '1' then\n"
                  "  say(KEYS[3], 'released', ARGV[1], tonumber(ARGV[2]))\n"
                  "end\n"
                  "return is_ours and 1 or 0\n",

    // KEYS owner, history, ctl. ARGV node, the epoch that is known to who asks. Answers {HTTP
    // status, the epoch that was erased up to}: never one that leaves hardly any behind it.
    [SCRIPT_ERASE] =
        LAST SAY "if redis.call('EXISTS', KEYS[1]) == 1 then return {409, 0} end\n"
                 "local last_epoch = last(KEYS[2])\n"
                 "local epoch = tonumber(ARGV[2])\n"
                 "if last_epoch <= 2 ^ 51 then epoch = math.max(last_epoch, epoch) end\n"
                 "redis.call('DEL', KEYS[2])\n"
                 "say(KEYS[3], 'erased', ARGV[1], epoch)\n"
                 "return {last_epoch > 0 and 200 or 404, epoch}\n",

    // KEYS owner, ctl. ARGV node. Answers an HTTP status.
    [SCRIPT_END] = OWNER SAY "local whose, epoch = owner(KEYS[1])\n"
                             "if whose == '' then return 404 end\n"
                             "say(KEYS[2], 'end', ARGV[1], epoch)\n"
                             "return 200\n",

    // KEYS owner. Answers {HTTP status, epoch}.
    [SCRIPT_BEGAN] = OWNER "local whose, epoch = owner(KEYS[1])\n"
                           "return {whose == '' and 404 or 200, epoch}\n",

    // KEYS node, nodes, name. ARGV the node's id, its sessions, time to live, the process that has
    // the id. By Redis' clock, which is the same to all. Answers 0: it has; or when the name of the
    // other that has it ends, in ms.
    [SCRIPT_SHOW] =
        "local now = redis.call('TIME')\n"
        "local ms = now[1] * 1000 + math.floor(now[2] / 1000)\n"
        "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n"
        "redis.call('ZADD', KEYS[2], string.format('%.0f', ms), ARGV[1])\n"
        "redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', ms - ARGV[3]))\n"
        "if (redis.call('GET', KEYS[3]) or ARGV[4]) ~= ARGV[4] then\n"
        "  return ms + redis.call('PTTL', KEYS[3])\n"
        "end\n"
        "redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[3])\n"
        "return 0\n",

    // KEYS nodes. ARGV what the keys of nodes begin with, how many bytes at most. Answers {1: some
    // were left out, the arrays}; what a node could not show is an empty string.
    [SCRIPT_SESSIONS] = "local found, size, is_cut = {}, 0, 0\n"
                        "for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do\n"
                        "  local sessions = redis.call('GET', ARGV[1] .. id)\n"
                        "  if sessions and sessions ~= '' and\n"
                        "     size + #sessions <= tonumber(ARGV[2]) then\n"
                        "    size = size + #sessions\n"
                        "    found[#found + 1] = sessions\n"
                        "  elseif sessions then\n"
                        "    is_cut = 1\n"
                        "  end\n"
                        "end\n"
                        "return {is_cut, found}\n",

    // KEYS history, owner. ARGV after which id ('-': from the beginning), how many entries, how
    // many bytes at most (of more than one). Answers {what the stream begins with, 1: there may be
    // more, the owner's key, id and message of each entry}.
    [SCRIPT_READ] =
        "local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])\n"
        "local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]\n"
        "local answer = {first and first[1] or '', #entries == tonumber(ARGV[2]) and 1 or 0,\n"
        "  redis.call('GET', KEYS[2]) or ''}\n"
        "local size = 0\n"
        "for i, entry in ipairs(entries) do\n"
        "  local message = ''\n"
        "  for k = 1, #entry[2], 2 do\n"
        "    if entry[2][k] == 'message' then message = entry[2][k + 1] end\n"
        "  end\n"
        "  size = size + #message\n"
        "  if i > 1 and size > tonumber(ARGV[3]) then\n"
        "    answer[2] = 1\n"
        "    break\n"
        "  end\n"
        "  answer[#answer + 1] = entry[1]\n"
        "  answer[#answer + 1] = message\n"
        "end\n"
        "return answer\n",
};
