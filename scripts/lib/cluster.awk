# cluster.awk: from the plan of mcp-units and the cluster's configuration to what has to change in it, in all forms at once.
#
# Reads, each announced by an assignment of `kind`: "plan" (lines of mcp-units --plan), "node" (NAME, MiB, and "told"
# where the operator said so), "pin" (TARGET, NODE), "shared" (TARGET), "cib" (as cibadmin --query prints it, one tag a
# line). Variables: dir, where to write; services, those that are meant, none for all; own, this node's name.
# Writes in dir: crm, pcs, new.xml, changes (what it is, and its id), gone (id, target, constraints), notes, errors,
# places (id, target, MiB), capacities (node, MiB), states (how many nodes were
# ever seen), parameters.ID.

function attribute(line, name,    text) {
    if (!match(line, " " name "=\"[^\"]*\"")) return ""
    text = substr(line, RSTART, RLENGTH)
    sub(/^[^"]*"/, "", text)
    sub(/"$/, "", text)
    return text
}
function with_attribute(line, name, value,    end) {
    if (match(line, " " name "=\"[^\"]*\""))
        return substr(line, 1, RSTART - 1) " " name "=\"" value "\"" substr(line, RSTART + RLENGTH)
    end = line ~ /\/>$/ ? "/>" : ">"
    return substr(line, 1, length(line) - length(end)) " " name "=\"" value "\"" end
}
function plain(text) {
    gsub(/&lt;/, "<", text)
    gsub(/&gt;/, ">", text)
    gsub(/&quot;/, "\"", text)
    gsub(/&apos;/, "'", text)
    gsub(/&#10;/, " ", text)
    gsub(/&amp;/, "\\&", text)
    return text
}
# As a word of a shell.
function word(text) {
    text = plain(text)
    if (text ~ /^[A-Za-z0-9_.,:=@%\/+-]+$/) return text
    gsub(/'/, "'\\''", text)
    return "'" text "'"
}
# As a word of the crm shell.
function crm_word(text) {
    text = plain(text)
    if (text ~ /^[A-Za-z0-9_.,:@%\/+-]+$/) return text
    gsub(/"/, "\\\"", text)
    return "\"" text "\""
}
# An interval in one form.
function interval(text) { return text == "" || text == "0" ? "0s" : text }
# XML's names begin with no digit.
function id_of(service, component) { return (service ~ /^[0-9]/ ? "mcp_" : "") service "_" component }
function seconds(milliseconds) { return int((milliseconds + 999) / 1000) }
function at_least(least, value) { return value < least ? least : value }
function wrong(text) { print text >(dir "/errors") }
function note(text) { print text >(dir "/notes") }
function changed(what, id) {
    print what "\t" id >(dir "/changes")
    changes++
}

BEGIN {
    FS = "\t"
    count = split(services, list, " ")
    for (i = 1; i <= count; i++) asked[list[i]] = 1
    asked_all = count == 0
    # What the agent's own description advises is the least.
    START = 120
    STOP = 60
    split("instance_attributes meta_attributes utilization", SETS, " ")
    split("errors notes changes gone crm pcs new.xml places capacities", files, " ")
    for (i in files) printf "" >(dir "/" files[i])
}

kind == "plan" {
    known[$3] = 1
    if ($6 == "cluster") {
        marked[$3] = 1
        n_parts++
        part_stage[n_parts] = $1
        if ($2 == "-") loose[$1] = 1
        part_service[n_parts] = $3
        part_target[n_parts] = $3 "/" $4
        part_memory[n_parts] = $7 == "-" ? "" : int(($7 + 1048575) / 1048576)
        # What does not become ready in time is stopped by the start.
        part_start[n_parts] = at_least(START, seconds($8) + seconds($9) + 30)
        part_stop[n_parts] = at_least(STOP, seconds($9) + 10)
        part_volumes[n_parts] = $10
        part_health[n_parts] = $11
        part_id[n_parts] = id_of($3, $4)
    }
    next
}
kind == "node" {
    # What the operator says goes before what a node says of itself.
    if (!($1 in told)) size_of[$1] = $2
    if ($3 == "told") told[$1] = 1
    next
}
kind == "pin" { pin_to[$1] = $2 }
kind == "shared" { shared[$1] = 1 }
kind != "cib" { next }

# The configuration of the cluster: where everything of ours stands in it.
{
    line[++n] = $0
    text = $0
    sub(/^[ \t]*/, "", text)
    if (text !~ /^</ || text ~ /^<[!?]/) next
    tag = text
    sub(/^<\/?/, "", tag)
    sub(/[ \/>].*/, "", tag)
    if (text ~ /^<\//) {
        close_tag(tag)
        next
    }
    depth++
    stack[depth] = tag
    open_tag(tag, attribute($0, "id"))
    if (text ~ /\/>$/) {
        is_empty[n] = 1
        close_tag(tag)
    }
}
function open_tag(tag, id) {
    if (depth == 3 && stack[2] == "status" && tag == "node_state") states++
    if (stack[2] != "configuration") return
    if (depth == 3) section[tag] = n
    else if (stack[3] == "crm_config") open_property(tag)
    else if (stack[3] == "nodes") open_node(tag, id)
    else if (stack[3] == "resources") open_resource(tag, id)
    else if (stack[3] == "constraints") open_constraint(tag, id)
}
function open_property(tag,    name) {
    # The crm shell and pcs put all into this one.
    if (tag == "cluster_property_set" && (!property_set || attribute(line[n], "id") == "cib-bootstrap-options")) {
        property_end = 0
        property_set = n
        property_set_id = attribute(line[n], "id")
    }
    if (tag == "nvpair" && depth == 5) {
        name = attribute(line[n], "name")
        property[name] = attribute(line[n], "value")
        property_line[name] = n
    }
}
function open_node(tag, id) {
    if (depth == 4 && tag == "node") {
        node = attribute(line[n], "uname")
        nodes[++n_nodes] = node
        node_id[node] = id
        owner = "node " node
        first[owner] = n
    } else if (depth == 5) open_set(tag, id)
    else if (depth == 6 && tag == "nvpair") open_pair()
}
function open_set(tag, id) {
    current_set = tag
    if (!((owner, tag) in set_line)) {
        set_line[owner, tag] = n
        set_id[owner, tag] = id
    }
}
function open_pair(    name) {
    name = attribute(line[n], "name")
    if ((owner, current_set, name) in value) return
    value[owner, current_set, name] = attribute(line[n], "value")
    value_line[owner, current_set, name] = n
    names[owner, current_set] = names[owner, current_set] name "\t"
}
function open_resource(tag, id,    inside) {
    if (tag == "primitive" || tag == "group" || tag == "clone" || tag == "master" || tag == "bundle" || tag == "template") {
        taken[id] = tag
        primitive = ""
        if (tag == "primitive" && line[n] ~ / provider="mcp"/ && line[n] ~ / type="component"/) {
            primitive = id
            ours[id] = 1
            all_ours[++n_ours] = id
            owner = id
            own_depth = depth
            first[id] = n
        }
        return
    }
    if (primitive == "") return
    inside = depth - own_depth
    if (tag == "rule") ruled[primitive] = 1
    if (inside == 1) open_set(tag, id)
    else if (inside == 2 && tag == "nvpair") open_pair()
    else if (inside == 2 && tag == "op") {
        op = attribute(line[n], "name") "\t" interval(attribute(line[n], "interval"))
        op_line[primitive, op] = n
        op_timeout[primitive, op] = attribute(line[n], "timeout")
        ops[primitive] = ops[primitive] op "\n"
    } else if (inside == 4 && tag == "nvpair" && attribute(line[n], "name") == "OCF_CHECK_LEVEL")
        op_level[primitive, op] = attribute(line[n], "value")
}
function open_constraint(tag, id,    kind_of, both) {
    if (depth == 4) {
        constraint = id
        all_constraints[++n_constraints] = id
        first[id] = n
        if (tag == "rsc_order") {
            kind_of = attribute(line[n], "kind")
            both = attribute(line[n], "symmetrical")
            says[id] = "order " (kind_of == "" ? "Mandatory" : kind_of) " " (both == "false" ? "false" : "true")
        } else if (tag == "rsc_colocation")
            says[id] = "with " attribute(line[n], "rsc") " " attribute(line[n], "with-rsc") " " attribute(line[n], "score")
        else says[id] = "pin " attribute(line[n], "rsc")
    } else if (tag == "resource_set")
        says[constraint] = says[constraint] " {" (attribute(line[n], "sequential") == "false" ? "" : "sequential")
    else if (tag == "resource_ref") says[constraint] = says[constraint] " " id
    else if (tag == "rule") rule_score = attribute(line[n], "score")
    else if (tag == "expression" && rule_score == "-INFINITY" && attribute(line[n], "attribute") == "#uname" && \
        attribute(line[n], "operation") == "ne")
        says[constraint] = says[constraint] " " attribute(line[n], "value")
}
function close_tag(tag) {
    if (stack[2] == "configuration") {
        if (depth == 3) section_end[tag] = n
        if (stack[3] == "crm_config" && depth == 4 && !property_end) property_end = n
        if (stack[3] == "nodes" && depth == 4) last["node " node] = n
        if (stack[3] == "nodes" && depth == 5 && !(("node " node, tag) in set_end)) set_end["node " node, tag] = n
        if (stack[3] == "resources" && primitive != "") {
            if (depth == own_depth) {
                last[primitive] = n
                primitive = ""
            } else if (depth == own_depth + 1 && !((primitive, tag) in set_end)) set_end[primitive, tag] = n
            else if (depth == own_depth + 2 && tag == "op") op_end[primitive, op] = n
        }
        if (stack[3] == "constraints" && depth == 4) last[constraint] = n
        if (tag == "resource_set") says[constraint] = says[constraint] " }"
    }
    delete stack[depth]
    depth--
}

# Changes of the configuration's text.
function put_in(start, end, tag, text) {
    if (start in is_empty) {
        opened[start] = tag
        body[start] = body[start] text
    } else before[end] = before[end] text
}
function put_in_section(name, text) { put_in(section[name], section_end[name], name, text) }
function pair(owner_id, set, name, what) {
    return "<nvpair id=\"" owner_id "-" set "-" name "\" name=\"" name "\" value=\"" what "\"/>\n"
}
# Sets a value of something that is there; true where it was another.
function set_value(owner, owner_id, tag, name, what,    l) {
    if ((owner, tag, name) in value) {
        if (value[owner, tag, name] == what) return 0
        l = value_line[owner, tag, name]
        line[l] = with_attribute(line[l], "value", what)
    } else {
        names[owner, tag] = names[owner, tag] name "\t"
        if ((owner, tag) in set_line) {
            put_in(set_line[owner, tag], set_end[owner, tag], tag, pair(owner_id, tag, name, what))
        } else if ((owner, tag) in fresh) {
            late[owner, tag] = late[owner, tag] pair(owner_id, tag, name, what)
        } else {
            fresh[owner, tag] = 1
            late[owner, tag] = pair(owner_id, tag, name, what)
        }
    }
    value[owner, tag, name] = what
    return 1
}
function flush_fresh(owner, owner_id, element,    i, tag) {
    for (i = 1; i <= 3; i++) {
        tag = SETS[i]
        if ((owner, tag) in fresh)
            put_in(first[owner], last[owner], element, "<" tag " id=\"" owner_id "-" tag "\">\n" late[owner, tag] "</" tag ">\n")
    }
}

# The operations of component i, a line each: name, interval, timeout, level.
function wanted_ops(i,    text) {
    text = "start\t0s\t" part_start[i] "s\t\nstop\t0s\t" part_stop[i] "s\t\nmonitor\t10s\t20s\t\n"
    if (part_health[i] != "-") text = text "monitor\t30s\t30s\t10\n"
    return text
}
function op_xml(id, name, every, timeout, level,    oid) {
    oid = id "-" name "-" every
    if (level == "") return "<op id=\"" oid "\" name=\"" name "\" interval=\"" every "\" timeout=\"" timeout "\"/>\n"
    return "<op id=\"" oid "\" name=\"" name "\" interval=\"" every "\" timeout=\"" timeout "\">\n" \
        "<instance_attributes id=\"" oid "-instance_attributes\">\n" \
        pair(oid, "instance_attributes", "OCF_CHECK_LEVEL", level) "</instance_attributes>\n</op>\n"
}
function want(i, tag, name, what) {
    wants[i, tag] = wants[i, tag] name "\t"
    wanted_value[i, tag, name] = what
}
function wanted(i) {
    want(i, "instance_attributes", "target", part_target[i])
    want(i, "meta_attributes", "resource-stickiness", 100)
    want(i, "meta_attributes", "migration-threshold", 3)
    want(i, "meta_attributes", "failure-timeout", "600s")
    if (part_memory[i] != "") want(i, "utilization", "memory", part_memory[i])
}

function new_primitive(i,    id, text, j, k, count, list, tag, field) {
    id = part_id[i]
    text = "<primitive id=\"" id "\" class=\"ocf\" provider=\"mcp\" type=\"component\">\n"
    for (j = 1; j <= 3; j++) {
        tag = SETS[j]
        count = split(wants[i, tag], list, "\t") - 1
        if (count > 0) text = text "<" tag " id=\"" id "-" tag "\">\n"
        for (k = 1; k <= count; k++) {
            text = text pair(id, tag, list[k], wanted_value[i, tag, list[k]])
            names[id, tag] = names[id, tag] list[k] "\t"
            value[id, tag, list[k]] = wanted_value[i, tag, list[k]]
        }
        if (count > 0) text = text "</" tag ">\n"
        if (j == 1) {
            text = text "<operations>\n"
            count = split(wanted_ops(i), list, "\n") - 1
            for (k = 1; k <= count; k++) {
                split(list[k], field, "\t")
                text = text op_xml(id, field[1], field[2], field[3], field[4])
            }
            text = text "</operations>\n"
        }
    }
    put_in_section("resources", text "</primitive>\n")
    changed("new", id)
    crm_primitive(i, wanted_ops(i))
    pcs("resource create " id " ocf:mcp:component" pcs_pairs(i, "instance_attributes") " op" pcs_ops(wanted_ops(i)) \
        " meta" pcs_pairs(i, "meta_attributes") " --no-default-ops")
    if (wants[i, "utilization"] != "") pcs("resource utilization " id pcs_pairs(i, "utilization"))
}
function old_primitive(i,    id, j, k, count, list, tag, differs, field, op, l, more, less, all, util) {
    id = part_id[i]
    for (j = 1; j <= 3; j++) {
        tag = SETS[j]
        count = split(wants[i, tag], list, "\t") - 1
        for (k = 1; k <= count; k++) {
            if (!set_value(id, id, tag, list[k], wanted_value[i, tag, list[k]])) continue
            if (tag == "utilization") util = 1
            differs[tag] = differs[tag] " " list[k] "=" word(wanted_value[i, tag, list[k]])
            differs["any"] = 1
        }
    }
    flush_fresh(id, id, "primitive")
    count = split(wanted_ops(i), list, "\n") - 1
    for (k = 1; k <= count; k++) {
        split(list[k], field, "\t")
        op = field[1] "\t" field[2]
        is_wanted[id, op] = 1
        if ((id, op) in op_line && op_timeout[id, op] == field[3] && op_level[id, op] == field[4]) continue
        more = more list[k] "\n"
        if ((id, op) in op_line && op_level[id, op] == field[4]) {
            line[op_line[id, op]] = with_attribute(line[op_line[id, op]], "timeout", field[3])
            op_timeout[id, op] = field[3]
            continue
        }
        if ((id, op) in op_line) drop(op_line[id, op], op_end[id, op])
        else ops[id] = ops[id] op "\n"
        new_op[id] = new_op[id] op_xml(id, field[1], field[2], field[3], field[4])
        op_timeout[id, op] = field[3]
        op_level[id, op] = field[4]
    }
    # A check of health that there is no longer; operations of others are theirs.
    op = "monitor\t30s"
    if (!((id, op) in is_wanted) && op_level[id, op] == 10) {
        less = attribute(line[op_line[id, op]], "id")
        drop(op_line[id, op], op_end[id, op])
        sub(op "\n", "", ops[id])
    }
    if (new_op[id] != "") {
        if ((id, "operations") in set_line) put_in(set_line[id, "operations"], set_end[id, "operations"], "operations", new_op[id])
        else put_in(first[id], last[id], "primitive", "<operations>\n" new_op[id] "</operations>\n")
    }
    if (!differs["any"] && more == "" && less == "") return
    changed("changed", id)
    if (id in ruled) note(part_target[i] ": its resource has rules that the crm shell's and pcs's form leave out: mcp cluster --apply keeps them")
    count = split(ops[id], list, "\n") - 1
    for (k = 1; k <= count; k++) {
        split(list[k], field, "\t")
        all = all list[k] "\t" op_timeout[id, list[k]] "\t" op_level[id, list[k]] "\n"
    }
    crm_primitive(i, all)
    if (differs["instance_attributes"] differs["meta_attributes"] more != "")
        pcs("resource update " id differs["instance_attributes"] (more == "" ? "" : " op" pcs_ops(more)) \
            (differs["meta_attributes"] == "" ? "" : " meta" differs["meta_attributes"]))
    if (less != "") pcs("resource op remove " less)
    if (util) pcs("resource utilization " id differs["utilization"])
}
function drop(from, to,    l) { for (l = from; l <= to; l++) dropped[l] = 1 }

function crm(text) { print text >(dir "/crm") }
function pcs(text) { print "pcs -f \"$cib\" " text >(dir "/pcs") }
function pcs_pairs(i, tag,    count, list, k, text) {
    count = split(wants[i, tag], list, "\t") - 1
    for (k = 1; k <= count; k++) text = text " " list[k] "=" word(wanted_value[i, tag, list[k]])
    return text
}
function pcs_ops(which,    count, list, k, field, text) {
    count = split(which, list, "\n") - 1
    for (k = 1; k <= count; k++) {
        split(list[k], field, "\t")
        text = text " " field[1] " interval=" field[2] " timeout=" field[3] (field[4] == "" ? "" : " OCF_CHECK_LEVEL=" field[4])
    }
    return text
}
function crm_pairs(owner, tag,    count, list, k, text) {
    count = split(names[owner, tag], list, "\t") - 1
    for (k = 1; k <= count; k++) text = text " " list[k] "=" crm_word(value[owner, tag, list[k]])
    return text
}
function crm_primitive(i, which,    id, count, list, k, field, text) {
    id = part_id[i]
    text = "primitive " id " ocf:mcp:component \\\n    params" crm_pairs(id, "instance_attributes")
    count = split(which, list, "\n") - 1
    for (k = 1; k <= count; k++) {
        split(list[k], field, "\t")
        text = text " \\\n    op " field[1] " interval=" field[2] (field[3] == "" ? "" : " timeout=" field[3]) \
            (field[4] == "" ? "" : " OCF_CHECK_LEVEL=" field[4])
    }
    text = text " \\\n    meta" crm_pairs(id, "meta_attributes")
    if (names[id, "utilization"] != "") text = text " \\\n    utilization" crm_pairs(id, "utilization")
    crm(text)
}

# A constraint of ours, as it shall be.
function want_constraint(id, what, xml, crm_text, pcs_text,    is_old) {
    wanted_constraint[id] = 1
    is_old = id in says
    if (is_old && says[id] == what) return
    if (is_old) {
        drop(first[id], last[id])
        before[first[id]] = before[first[id]] xml
        pcs("constraint delete " id)
    } else put_in_section("constraints", xml)
    changed(is_old ? "changed" : "new", id)
    crm(crm_text)
    pcs("constraint " pcs_text)
}
# An order of the stages in `which`, numbers separated by spaces; `joined` makes all after the first one set. To pcs, two
# orders of the same sets are one too many, whatever their kinds.
function want_order(id, kind_of, both, which, joined,    count, list, i, j, m, member, what, xml, crm_text, pcs_text, set) {
    what = "order " kind_of " " both
    xml = "<rsc_order id=\"" id "\" kind=\"" kind_of "\"" (both == "false" ? " symmetrical=\"false\"" : "") ">\n"
    crm_text = "order " id " " kind_of ":"
    pcs_text = "order"
    count = split(which, list, " ")
    for (i = 1; i <= count; i++) {
        if (!joined || i <= 2) {
            what = what " {"
            xml = xml "<resource_set id=\"" id "-" (i - 1) "\" sequential=\"false\">\n"
            crm_text = crm_text " ("
            pcs_text = pcs_text " set"
        }
        m = split(members[list[i]], member, " ")
        for (j = 1; j <= m; j++) {
            what = what " " member[j]
            xml = xml "<resource_ref id=\"" member[j] "\"/>\n"
            crm_text = crm_text " " member[j]
            pcs_text = pcs_text " " member[j]
        }
        if (!joined || i == 1 || i == count) {
            what = what " }"
            xml = xml "</resource_set>\n"
            crm_text = crm_text " )"
            pcs_text = pcs_text " sequential=false"
        }
    }
    want_constraint(id, what, xml "</rsc_order>\n", crm_text (both == "false" ? " symmetrical=false" : ""), \
        pcs_text " setoptions kind=" kind_of (both == "false" ? " symmetrical=false" : "") " id=" id " --force")
}
function want_together(id, leader,    cid) {
    cid = "mcp-with-" id
    want_constraint(cid, "with " id " " leader " INFINITY", \
        "<rsc_colocation id=\"" cid "\" rsc=\"" id "\" with-rsc=\"" leader "\" score=\"INFINITY\"/>\n", \
        "colocation " cid " inf: " id " " leader, "colocation add " id " with " leader " score=INFINITY id=" cid)
}
function want_pin(i,    id, cid, where) {
    id = part_id[i]
    cid = "mcp-pin-" id
    where = pin_to[part_target[i]]
    if (part_target[i] in shared) return
    # The node that was told once stays.
    if (where == "" && cid in says) {
        wanted_constraint[cid] = 1
        return
    }
    if (where == "" && part_volumes[i] == "-") return
    if (where == "" && own in node_id) {
        where = own
        note(part_target[i] ": its volume (" part_volumes[i] ") is taken to be on " own ", and pins it there; else --pin " \
            part_target[i] "=NODE, or --shared " part_target[i])
    }
    if (!(where in node_id)) {
        wrong(part_target[i] ": " (where == "" ? "has a volume (" part_volumes[i] "), and no node is known that it is on" : \
            where ": no such node") "; --pin " part_target[i] "=NODE, or --shared " part_target[i] " where all nodes have it")
        return
    }
    want_constraint(cid, "pin " id " " where, \
        "<rsc_location id=\"" cid "\" rsc=\"" id "\">\n<rule id=\"" cid "-rule\" score=\"-INFINITY\">\n<expression id=\"" cid \
        "-rule-expression\" attribute=\"#uname\" operation=\"ne\" value=\"" where "\"/>\n</rule>\n</rsc_location>\n", \
        "location " cid " " id " rule -inf: #uname ne " where, \
        "location " id " rule id=" cid "-rule constraint-id=" cid " score=-INFINITY '#uname' ne " where)
}

# What the scheduler takes the digest of, to see whether a resource that runs has another definition since.
function write_parameters(id,    count, list, k, m, name, file) {
    count = split(names[id, "instance_attributes"], list, "\t") - 1
    for (k = 2; k <= count; k++)
        for (m = k; m > 1 && list[m - 1] > list[m]; m--) {
            name = list[m]
            list[m] = list[m - 1]
            list[m - 1] = name
        }
    file = dir "/parameters." id
    printf " <parameters" >file
    for (k = 1; k <= count; k++) printf " %s=\"%s\"", list[k], value[id, "instance_attributes", list[k]] >file
    print "/>" >file
    close(file)
}

function do_nodes(    k, node, owner, unknown, counts, was) {
    for (node in told) if (!(node in node_id)) wrong(node ": no such node in the cluster; crm_node --list names them")
    for (k = 1; k <= n_nodes; k++) {
        node = nodes[k]
        owner = "node " node
        # What the operator has set by hand, only he changes.
        if (node in size_of && (node in told || !((owner, "utilization", "memory") in value))) {
            if (set_value(owner, "nodes-" node_id[node], "utilization", "memory", size_of[node])) {
                flush_fresh(owner, "nodes-" node_id[node], "node")
                changed((owner, "utilization") in fresh ? "new" : "changed", "capacity of " node)
                crm("node " node_id[node] ": " node (names[owner, "instance_attributes"] == "" ? "" : " attributes" \
                    crm_pairs(owner, "instance_attributes")) " utilization" crm_pairs(owner, "utilization"))
                pcs("node utilization " node " memory=" size_of[node])
            }
        }
        if ((owner, "utilization", "memory") in value) {
            print node "\t" value[owner, "utilization", "memory"] >(dir "/capacities")
        } else {
            unknown = unknown " " node
            print node "\t-" >(dir "/capacities")
        }
    }
    for (k = 1; k <= n_parts; k++) if (is_in[k] && part_memory[k] != "") counts = 1
    if (!counts || !n_nodes) return
    if (unknown != "") {
        note("the memory of" unknown " is not known, so that placement does not count it yet: --node NAME=SIZE for each, or --via")
        return
    }
    was = "placement-strategy" in property
    if (was && property["placement-strategy"] != "default") return
    if (was) {
        k = property_line["placement-strategy"]
        line[k] = with_attribute(line[k], "value", "balanced")
    } else if (property_set) {
        put_in(property_set, property_end, "cluster_property_set", "<nvpair id=\"" property_set_id \
            "-placement-strategy\" name=\"placement-strategy\" value=\"balanced\"/>\n")
    } else {
        put_in_section("crm_config", "<cluster_property_set id=\"cib-bootstrap-options\">\n<nvpair id=\"" \
            "cib-bootstrap-options-placement-strategy\" name=\"placement-strategy\" value=\"balanced\"/>\n" \
            "</cluster_property_set>\n")
    }
    changed(was ? "changed" : "new", "placement-strategy")
    crm("property placement-strategy=balanced")
    pcs("property set placement-strategy=balanced")
}

function check(    service, i, k, id, target, any) {
    for (service in asked) {
        if (!(service in known)) wrong(service ": no such service, or it is not active")
        else if (!(service in marked))
            wrong(service ": its node starts it, not the cluster; put placement = \"cluster\" into its definition on every node")
    }
    for (i = 1; i <= n_parts; i++) {
        id = part_id[i]
        by_id[id] = i
        by_target[part_target[i]] = i
        is_in[i] = asked_all || part_service[i] in asked
        if (is_in[i]) any = 1
        if (is_in[i] && id in taken && !(id in ours))
            wrong(part_target[i] ": the cluster has a " taken[id] " " id " that is not ocf:mcp:component; rename one of them")
    }
    if (asked_all && !any)
        wrong("no service is for the cluster to place; put placement = \"cluster\" into its definition on every node")
    # Two resources of one target would run it twice.
    for (k = 1; k <= n_ours; k++) {
        target = value[all_ours[k], "instance_attributes", "target"]
        if (all_ours[k] in by_id) continue
        for (i = 1; i <= n_parts; i++)
            if (is_in[i] && (target == part_target[i] || target == part_service[i]))
                wrong(part_target[i] ": the resource " all_ours[k] " of the cluster is for it already; remove that first")
    }
    for (target in pin_to) if (!(target in by_target)) wrong(target ": no such component for the cluster to place")
    for (target in shared) if (!(target in by_target)) wrong(target ": no such component for the cluster to place")
}

END {
    check()
    for (i = 1; i <= n_parts; i++) {
        id = part_id[i]
        if (!is_in[i]) continue
        wanted(i)
        if (id in ours) old_primitive(i)
        else new_primitive(i)
        if (part_memory[i] == "" && !((id, "utilization", "memory") in value)) unbounded = unbounded " " part_target[i]
        print id "\t" part_target[i] "\t" value[id, "utilization", "memory"] >(dir "/places")
        write_parameters(id)
    }
    if (unbounded != "") note("containers count for nothing in placement, since nothing bounds their memory:" unbounded)
    # What the cluster has of other services belongs into the orders, too.
    for (i = 1; i <= n_parts; i++) {
        id = part_id[i]
        if (!is_in[i] && !(id in ours)) continue
        s = part_stage[i]
        if (!(s in members)) order = order (order == "" ? "" : " ") s
        members[s] = members[s] (members[s] == "" ? "" : " ") id
        if (part_service[i] in leader) want_together(id, leader[part_service[i]])
        else leader[part_service[i]] = id
        want_pin(i)
    }
    if (order ~ / /) {
        if (order ~ /^0 / && !(0 in loose)) want_order("mcp-foundation", "Mandatory", "false", order, 1)
        want_order("mcp-stages", "Optional", "true", order, 0)
    }
    do_nodes()
    for (k = 1; k <= n_ours; k++) {
        id = all_ours[k]
        target = value[id, "instance_attributes", "target"]
        # What has another name is somebody's own.
        if (!(id in by_id) && !(target in by_target) && !(target in marked)) print "resource\t" id "\t" target >(dir "/gone")
    }
    for (k = 1; k <= n_constraints; k++) {
        id = all_constraints[k]
        if (id ~ /^mcp-(with-|pin-|foundation$|stages$)/ && !(id in wanted_constraint)) print "constraint\t" id "\t-" >(dir "/gone")
    }
    for (l = 1; l <= n; l++) {
        printf "%s", before[l] >(dir "/new.xml")
        if (l in dropped) continue
        if (l in opened) {
            sub(/\/>$/, ">", line[l])
            printf "%s\n%s</%s>\n", line[l], body[l], opened[l] >(dir "/new.xml")
        } else print line[l] >(dir "/new.xml")
    }
    print states + 0 >(dir "/states")
}
