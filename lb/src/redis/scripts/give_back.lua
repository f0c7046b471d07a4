-- Gives registrations back to a store that may have lost them: of each server the one with the youngest heartbeat stays.
-- KEYS: list, marks. ARGV: base; of each its id, its server, the registration, how long it lives on in ms.
local time, has_changed = now(), false
local list = read_list()
if not list then list, has_changed = {}, true end

-- Which registrations are there, of which server, and how long they live on. The list itself keeps its order.
local left, servers = {}, {}
for _, key in ipairs(list) do
  local id = id_of(key)
  local text = not left[id] and read('GET', base .. id)
  if text then
    local life, server = redis.call('PTTL', base .. id), server_of(text)
    left[id] = life < 0 and math.huge or life
    if server then
      servers[server] = servers[server] or {}
      table.insert(servers[server], id)
    end
  end
end

for n = 2, #ARGV, 4 do
  local id, server, json, life = ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[n + 3])
  local gone = read('HGET', KEYS[2], 'gone:' .. id)
  local is_gone = gone and time < tonumber(gone:match('^%d+') or 0)
  local is_listed, there = left[id] ~= nil, left[id]
  if not is_listed and not is_gone and redis.call('EXISTS', base .. id) == 1 then
    there = redis.call('PTTL', base .. id)
    if there < 0 then there = math.huge end
  end
  local others, is_older = servers[server] or {}, false
  for _, other in ipairs(others) do
    is_older = is_older or other ~= id and left[other] and left[other] >= math.max(life, there or 0)
  end
  if not is_gone and not is_older then
    for _, other in ipairs(others) do
      if other ~= id and left[other] then
        end_life(KEYS[2], other, life)
        left[other], has_changed = nil, true
      end
    end
    if not there or there < life then
      redis.call('SET', base .. id, json, 'PX', life)
      there = life
    end
    left[id], servers[server] = there, { id }
    if not is_listed then
      table.insert(list, base .. id)
      has_changed = true
    end
  end
end

if has_changed then
  local kept = {}
  for _, key in ipairs(list) do
    if left[id_of(key)] then table.insert(kept, key) end
  end
  write_list(kept)
end
return redis.status_reply('OK')
