-- What is there, which lives on for so long at least; and so it does as its stream's, if it is a session and just that.
-- KEYS: the key. ARGV: the life, and what the key of its stream's begins with, if there is one.
local text, life = redis.call('GET', KEYS[1]), tonumber(ARGV[1])
if not text then return text end
put(KEYS[1], text, life)
if ARGV[2] then
  local good, session = pcall(cjson.decode, text)
  local stream = good and type(session) == 'table' and session.stream_url
  local key = type(stream) == 'string' and ARGV[2] .. stream
  if key and redis.pcall('GET', key) == text then put(key, text, life) end
end
return text
