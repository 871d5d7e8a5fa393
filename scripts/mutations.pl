#!/usr/bin/perl
# What scripts/mutate.sh breaks, one at a time:
#
#   scripts/mutations.pl list              their names, one a line
#   scripts/mutations.pl apply NAME TREE   makes that one in a copy of the project
#   scripts/mutations.pl exceptions        those that cannot be noticed, each with its reason
#
# They are made from the sources themselves, so that no new check is forgotten: each entry of the gate's table of checks
# is taken out; each refusal is turned into an acceptance; each condition that leads to one is left out where there are
# several. tests/mutations.txt has what no such rule finds, and the exceptions. A line of it whose text no longer stands
# in the source exactly once is an error.
use strict;
use warnings;

my $gate = 'gate/checks.c';
my $list = 'tests/mutations.txt';

# Files in which refusals are sought, and the functions there.
my %sought = (
    $gate                    => qr/./,
    'envelope/parse.c'       => qr/./,
    'envelope/content.c'     => qr/^parse_/,
    'envelope/facts.c'       => qr/^(parse|read)_/,
    'envelope/structures.c'  => qr/^verify_/,
    'envelope/signed.c'      => qr/^(parse_|verify_|read_)/,
    'envelope/statement.c'   => qr/^(parse_|judge_|find_|pep_statement_parse|pep_head_advance)/,
    'envelope/certificate.c' => qr/^(parse_|read_|pep_certificate_(parse|covers))/,
    'envelope/token.c'       => qr/^(parse_|pep_token_verify)/,
    'envelope/entry.c'       => qr/^pep_entry_parse/,
    'envelope/cbor.c'        => qr/^(?!write_|pep_write_)/,
    'envelope/text.c'        => qr/^pep_utf8_valid$/,
    'envelope/open.c'        => qr/^pep_verify$/,
    'envelope/replay.c'      => qr/^pep_replay_(check|is_redelivery)$/,
    'envelope/crypto.c'      => qr/^pep_ed25519_verify$/,
);

my @mutations;    # {name, file, at, old, new}
my %texts;
my $function;

sub text_of {
    my ($file) = @_;
    return $texts{$file} //= do {
        open my $in, '<', $file or die "$file: $!\n";
        local $/ = undef;
        <$in>;
    };
}

# The same text, where comments are spaces, and literals are nothing that means anything.
sub code_of {
    my $text = text_of($_[0]);
    $text =~ s{(/\*.*?\*/)|("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')}{
        defined $1 ? $1 =~ s/[^\n]/ /gr : '_' x length $2
    }gsex;
    return $text;
}

sub add {
    my ($name, $file, $at, $old, $new) = @_;
    $name =~ s/\s+/ /g;
    my $same = grep { $_->{name} =~ /^\Q$name\E( \(\d+\))?$/ } @mutations;
    $name .= ' (' . ($same + 1) . ')' if $same;
    push @mutations, { name => $name, file => $file, at => $at, old => $old, new => $new };
    return;
}

sub accept_instead {
    my ($file, $e, $success) = @_;
    add("$file $function: $e->[1] => $success", $file, @$e, $success);
    return;
}

# The condition is still evaluated: it may read something. If it does and there was nothing of the kind, what follows
# finds no value, or one that nobody has set: then leaving it out shows nothing.
my $reads_value = qr/^!?pep_(read_(u?int|bytes|text|array)|map_begin)\(/;

sub leave_out {
    my ($file, $e, $neutral) = @_;
    return if $e->[1] =~ $reads_value;
    my $old = substr text_of($file), $e->[0], length $e->[1];
    add("$file $function: without $old", $file, $e->[0], $old, "($old $neutral)");
    return;
}

# ---- expressions: [where it stands, its text] ----

sub trimmed {
    my ($at, $text) = @_;
    $text =~ s/^(\s+)// and $at += length $1;
    return [$at, $text =~ s/\s+$//r];
}

# Splits where the operator stands outside of all parentheses.
sub parts {
    my ($e, $operator) = @_;
    my ($at, $text) = @$e;
    my ($depth, $start, @found) = (0, 0);
    while ($text =~ /([()])|(\Q$operator\E)/g) {
        if (defined $1) {
            $depth += $1 eq '(' ? 1 : -1;
        } elsif ($depth == 0) {
            push @found, trimmed($at + $start, substr $text, $start, $-[0] - $start);
            $start = $+[0];
        }
    }
    return (@found, trimmed($at + $start, substr $text, $start));
}

# What stands in parentheses as a whole, or undef.
sub inner {
    my ($at, $text) = @{ $_[0] };
    return $text =~ /^(\((?:[^()]++|(?1))*\))$/ ? trimmed($at + 1, substr $text, 1, -1) : undef;
}

# A condition under which something is accepted: each part of it no longer asked for.
sub loosen {
    my ($file, $e) = @_;
    my @any = parts($e, '||');
    my @all = @any > 1 ? () : parts($e, '&&');
    for my $part (@any > 1 ? @any : @all) {
        leave_out($file, $part, '|| true') if @all > 1;
        my $in = @any > 1 ? (inner($part) // $part) : inner($part);
        loosen($file, $in) if defined $in;
    }
    return;
}

# A condition under which something is refused: each part of it no longer sufficient.
sub weaken {
    my ($file, $e) = @_;
    my @any = parts($e, '||');
    for my $part (@any > 1 ? @any : parts($e, '&&')) {
        leave_out($file, $part, '&& false') if @any > 1;
        my $in = inner($part);
        weaken($file, $in) if defined $in;
    }
    return;
}

# ---- statements ----

sub is_refusal { return $_[0] =~ /^(false|PEP_(?!OK\b)[A-Z_0-9]+)$/ }
sub is_success { return $_[0] =~ /^(true|PEP_OK)$/ }

sub in_return {
    my ($file, $e, $is_bool) = @_;
    my ($condition, $rest) = parts($e, '?');
    my @chosen = defined $rest ? parts($rest, ':') : $e;
    for my $value (@chosen) {
        if (is_refusal($value->[1])) {
            accept_instead($file, $value, $is_bool ? 'true' : 'PEP_OK');
        } elsif ($is_bool && !is_success($value->[1])) {
            leave_out($file, $value, '|| true') if parts($value, '&&') == 1;
            loosen($file, $value);
        }
    }
    return if !defined $rest;
    loosen($file, $condition) if is_success($chosen[0][1]);
    weaken($file, $condition) if is_success($chosen[1][1]);
    return;
}

sub in_function {
    my ($file, $at, $body, $is_bool) = @_;
    while ($body =~ /\breturn\b([^;]*);/g) {
        in_return($file, trimmed($at + $-[1], $1), $is_bool);
    }
    while ($body =~ /\bif (\((?:[^()]++|(?1))*\))\s*return\s([^;]*);/g) {
        my ($condition, $value) = (inner([$at + $-[1], $1]), $2);
        weaken($file, $condition) if is_refusal($value);
        loosen($file, $condition) if is_success($value);
    }
    return;
}

sub find_refusals {
    my ($file) = @_;
    my $code = code_of($file);
    while ($code =~ /^(\w[^;{}]*?)\b(\w+)\([^;{}]*\)\n\{\n(.*?)^\}/gms) {
        my ($type, $at, $body) = ($1, $-[3], $3);
        $function = $2;
        next if $function !~ $sought{$file};
        next if $file eq $gate && $type !~ /\bpep_reason\b/;    # there, only a reason refuses
        in_function($file, $at, $body, $type =~ /\bbool\b/);
    }
    return;
}

sub find_entries {
    my $code = code_of($gate);
    $code =~ /\bchecks\[\]\)\(judgement \*\) = \{(.*?)\};/s or die "$gate: the table of checks is not there\n";
    my ($at, $table) = ($-[1], $1);
    add("$gate checks[]: without $1", $gate, $at + $-[0], $&, '') while $table =~ /(\w+),/g;
    return;
}

# ---- tests/mutations.txt ----

my %exceptions;

sub read_list {
    my @wrong;
    for (split /\n/, text_of($list)) {
        next if /^(#|$)/;
        if (/^equivalent (.+) -- (.+)$/) {
            $exceptions{$1} = $2;
        } elsif (/^(\S+): (.+?) =>(?: (.*))?$/) {
            my ($file, $old, $new) = ($1, $2, $3 // '');
            my $sought = join '\s+', map { quotemeta } split ' ', $old;
            my $text   = text_of($file);
            $new = ';' if $new eq '' && $old =~ /;$/;    # it may be all that an `else` has
            my $count  = () = $text =~ /$sought/g;
            push @wrong, "in $file not once but $count times: $old" if $count != 1;
            push @mutations, { name => $_, file => $file, at => $-[0], old => $&, new => $new } if $text =~ /$sought/;
        } else {
            push @wrong, "this line is none: $_";
        }
    }
    my %names = map { $_->{name} => 1 } @mutations;
    $names{$_} or push @wrong, "there is no such mutation: $_" for sort keys %exceptions;
    die map { "$list: $_\n" } @wrong if @wrong;
    return;
}

sub apply {
    my ($name, $tree) = @_;
    my ($m) = grep { $_->{name} eq $name } @mutations or die "there is no such mutation: $name\n";
    my $text = text_of($m->{file});
    substr($text, $m->{at}, length $m->{old}) eq $m->{old} or die "$m->{file}: not what was read\n";
    substr($text, $m->{at}, length $m->{old}) = $m->{new};
    open my $out, '>', "$tree/$m->{file}" or die "$tree/$m->{file}: $!\n";
    print {$out} $text or die "$m->{file}: $!\n";
    close $out or die "$m->{file}: $!\n";
    return;
}

find_entries();
find_refusals($_) for sort keys %sought;
read_list();
my $what = shift // '';
if ($what eq 'list') {
    $exceptions{ $_->{name} } or print "$_->{name}\n" for @mutations;
} elsif ($what eq 'exceptions') {
    print "$_\n    $exceptions{$_}\n" for sort keys %exceptions;
} elsif ($what eq 'apply' && @ARGV == 2) {
    apply(@ARGV);
} else {
    die "usage: scripts/mutations.pl list | apply NAME TREE | exceptions\n";
}
