-- Stores a registration and puts it on the list, instead of those that it ends.
-- KEYS: list, registration, marks. ARGV: base, id, its server, the registration, its life in ms.
local id, server, json, life = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- A heartbeat, as most are, finds itself by its quoted key, and need not read the whole list.
local text = read('GET', KEYS[1])
local is_listed = text and text:match('^%s*%[.*%]%s*$') and text:find('"' .. KEYS[2] .. '"', 1, true)
local list = is_listed and {} or read_list() or {}
for _, key in ipairs(list) do
  is_listed = is_listed or id_of(key) == id
end
redis.pcall('HDEL', KEYS[3], 'gone:' .. id)
if not is_listed then
  local kept = {}
  for _, key in ipairs(list) do
    local registration = base .. id_of(key)
    local other = read('GET', registration)
    if other and server_of(other) == server then
      end_life(KEYS[3], id_of(key), life)
    elseif other then
      table.insert(kept, key)
    end
  end
  table.insert(kept, KEYS[2])
  write_list(kept)
end
redis.call('SET', KEYS[2], json, 'PX', life)
return redis.status_reply('OK')
