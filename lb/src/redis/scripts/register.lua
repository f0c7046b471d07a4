-- Stores a registration and puts it on the list, instead of those that it ends.
-- KEYS: list, registration, marks. ARGV: base, id, its server, the registration, its life in ms, 1 to restore only.
local id, server, json, life, restore = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'

local is_there = redis.call('EXISTS', KEYS[2]) == 1
local list = read_list() or {}
local is_listed = false
for _, key in ipairs(list) do
  is_listed = is_listed or id_of(key) == id
end
if restore then
  local gone = read('HGET', KEYS[3], 'gone:' .. id)
  local is_gone = gone and now() < tonumber(gone:match('^%d+') or 0)
  if is_gone or is_there and is_listed then return redis.status_reply('OK') end
else
  redis.pcall('HDEL', KEYS[3], 'gone:' .. id)
end

if not is_listed then
  local kept, ended = {}, {}
  for _, key in ipairs(list) do
    local registration = base .. id_of(key)
    local text = read('GET', registration)
    local other = text and decode(text)
    if other and other.server_id == server then
      table.insert(ended, registration)
    elseif text then
      table.insert(kept, key)
    end
  end
  if restore and #ended > 0 then return redis.status_reply('OK') end
  table.insert(kept, KEYS[2])
  write_list(kept)
  for _, registration in ipairs(ended) do
    redis.call('DEL', registration)
    redis.pcall('HSET', KEYS[3], 'gone:' .. registration:sub(#base + 1), string.format('%.0f 0', now() + life))
  end
end
if not (restore and is_there) then
  redis.call('SET', KEYS[2], json, 'PX', life)
end
return redis.status_reply('OK')
